"""A folder of weights out of the Hugging Face hub, in the hub's own cache.

In: hf://OWNER/NAME, hf://OWNER/NAME@REVISION, either with #sha256=DIGEST of the parameters; out: a local folder.
"""

import os
import re
import sys
from typing import NamedTuple

from save_jax.weights import description, loading

SCHEME = "hf://"
FORM = "hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME@REVISION#sha256=DIGEST"
FILES = [description.NAME, loading.FILE, f"{description.TOKENIZER}/*"]  # all that a model is opened with
TIMEOUT = 10  # seconds, of the first request
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^@#\s]+))?(?:#sha256=([0-9a-f]{16,64}))?")


class Address(NamedTuple):
    """Weights on the hub."""

    repository: str  # "owner/name"
    revision: str  # branch, tag or commit
    sha256: str  # how the digest of the parameters begins; "" where any are taken


def parse(address: str) -> Address:
    """The parts of an address. Raises ValueError for one of another form."""
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ValueError(f"{address} is no address of weights; they are {FORM} (at least 16 digits of it, 0-9 and a-f)")
    repository, revision, sha256 = match.groups()
    return Address(repository, revision or "main", sha256 or "")


def fetch(address: str) -> str:
    """Downloads what the hub's cache does not hold yet; returns the folder there.

    All files are of one commit. Where the hub cannot be reached, what the cache holds of the revision serves.

    Raises:
        ValueError that says what to do: another form of address, no such repository or revision, no save_jax model,
        other parameters than the address asks for, no network and nothing in the cache.
    """
    import huggingface_hub  # a third of a second, which folders do not need
    from huggingface_hub import constants, errors

    where = parse(address)
    url = huggingface_hub.hf_hub_url(where.repository, description.NAME, revision=where.revision)
    unreachable = None
    try:
        # One request before all others, which would try an unreachable network again and again.
        huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT)
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{address}: its owner has to let you in; ask on the page of {where.repository}, then log in with hf "
            "auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{address}: the hub has no model {where.repository}, or a private one; check owner and name, or log in "
            "with hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"{address}: {where.repository} has no revision {where.revision}; give one of its branches, tags or commits"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise ValueError(
            f"{address}: {where.repository} has no {description.NAME}, so it is no model of save_jax; weights of other "
            "code are downloaded and converted (save-jax convert)"
        ) from error
    except Exception as error:  # of the network, or of a hub that is down; they have no common base
        unreachable = error
    local = unreachable is not None
    try:
        about = huggingface_hub.hf_hub_download(
            where.repository, description.NAME, revision=where.revision, local_files_only=local
        )
        folder = os.path.dirname(about)  # named by the commit that the revision is now
        _check_pin(where, folder, address)  # before much is downloaded
        huggingface_hub.snapshot_download(
            where.repository, revision=os.path.basename(folder), allow_patterns=FILES, local_files_only=local
        )
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{address} is not in the hub's cache ({constants.HF_HUB_CACHE}), and the hub cannot be "
            f"reached ({_words(unreachable or error)}); where there is a network: hf download {where.repository} "
            f"--revision {where.revision} --local-dir FOLDER; copy FOLDER here and open it by its path"
        ) from error
    except ValueError:  # of the description
        raise
    except Exception as error:  # such as a file of another size than the hub says, or a full disk
        raise ValueError(f"{address} could not be downloaded ({_words(error)}); try again") from error
    if not os.path.exists(os.path.join(folder, loading.FILE)):
        raise ValueError(
            f"{address}: {where.repository} has no {loading.FILE}; its owner makes a folder for the hub with save-jax "
            "card"
        )
    if unreachable and os.path.basename(folder) != where.revision:
        commit = os.path.basename(folder)[:12]
        note = f"the hub cannot be reached ({_words(unreachable)}); used is what its cache holds, commit {commit}"
        print(f"{address}: {note}", file=sys.stderr, flush=True)
    return folder


def _check_pin(where: Address, folder: str, address: str) -> None:
    """Raises ValueError where the description is of other parameters than the address asks for, or cannot be used."""
    try:
        theirs = description.read(folder).params_sha256
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from error
    if not theirs.startswith(where.sha256):
        raise ValueError(
            f"{address}: the parameters there have the digest {theirs[: max(12, len(where.sha256))]}, the address asks "
            f"for {where.sha256}: they are others; name the commit that you know, or check the digest"
        )


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
