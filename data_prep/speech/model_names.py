"""A recogniser by name: which repository of the hub holds its weights for each engine, and of which commit they are."""

import os
import re
import shlex
from collections.abc import Sequence

import huggingface_hub
from huggingface_hub import constants, errors

SIZES = (
    *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
    *("large-v1", "large-v2", "large-v3", "large-v3-turbo"),
)
_OWNERS = {"transformers": "openai/whisper-", "faster-whisper": "Systran/faster-whisper-"}
_TURBO = "mobiuslabsgmbh/faster-whisper-large-v3-turbo"  # Systran has none
_FILES = {
    "transformers": [
        "*.json",
        "merges.txt",
        "model.safetensors",
        "model-*-of-*.safetensors",
    ],
    "faster-whisper": ["*.json", "vocabulary.*", "model.bin"],
}
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 10  # seconds, of the first request


def repository(engine: str, model: str) -> str:
    """ "tiny.en", or "openai/whisper-tiny.en" → the engine's own repository; other names of the hub stay."""
    size = model.removeprefix(_OWNERS["transformers"])
    if size not in SIZES:
        return model
    return _TURBO if engine == "faster-whisper" and size.endswith("turbo") else _OWNERS[engine] + size


def resolve(engine: str, model: str) -> str:
    """A folder stays a folder. A name, with or without @REVISION, becomes REPOSITORY@COMMIT.

    Without a revision the commit is the hub's latest, or else the latest in its local cache. A revision that is a
    commit stays; a branch or tag is looked up in the same two places.
    Where neither knows it, the name becomes REPOSITORY or REPOSITORY@REVISION, which `local_folder` refuses, should the
    weights be needed: what is named so may be other weights tomorrow.
    Raises ValueError for a name or revision that the hub does not know, or that none could have.
    """
    if os.path.isdir(model):
        return model
    given, _, revision = model.partition("@")
    name, forms = repository(engine, given), f"--model takes a folder, OWNER/NAME, or one of {', '.join(SIZES)}"
    if "/" not in name:
        raise ValueError(f"there is no folder {model}, and no such size; {forms}; names and sizes may end in @REVISION")
    if _COMMIT.fullmatch(revision):
        return f"{name}@{revision}"
    try:
        return f"{name}@{huggingface_hub.HfApi().model_info(name, revision=revision or 'main', timeout=_TIMEOUT).sha}"
    except errors.RevisionNotFoundError as error:
        raise ValueError(
            f"the hub's model {name} has no revision {revision or 'main'}; give a branch, a tag or a whole commit, or "
            f"{given} alone for the latest"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ValueError(f"the hub has no model {name}, or a private one; {forms}") from error
    except Exception:  # of the network; they have no common base
        commits = _in_cache(name, revision)
        found = commits[0] if commits else revision
        return f"{name}@{found}" if found else name


def _in_cache(name: str, revision: str) -> list[str]:
    """Commits of a repository that the hub's local cache holds, the latest first; `revision`: "" for any."""
    try:
        repositories = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except errors.CacheNotFound:
        return []
    found = [
        one
        for repository in repositories
        for one in repository.revisions
        if repository.repo_id == name
        and (not revision or revision in one.refs)
        and any(file.file_name.endswith((".bin", ".safetensors")) for file in one.files)
    ]
    return [one.commit_hash for one in sorted(found, key=lambda one: one.last_modified, reverse=True)]


def local_folder(engine: str, model: str) -> str:
    """The folder of a model that `resolve` gave, downloaded into the hub's cache where it is not there.

    Raises ValueError that says what to fetch where the hub cannot be reached. So it does where it can by now, and could
    not when `resolve` asked: results are kept by the model's name, which must say the commit.
    """
    if os.path.isdir(model):
        return model
    name, _, commit = model.partition("@")
    patterns = _FILES[engine]
    if not _COMMIT.fullmatch(commit):
        if (found := resolve(engine, model)) == model:
            raise _out_of_reach(model, "the hub does not answer", patterns)
        raise ValueError(
            f"the hub did not say before which commit {model} is, and now says {found}; give --model {found}, or run "
            "the same command again"
        )
    try:
        folder = huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=patterns)
        if not any(entry.endswith((".bin", ".safetensors")) for entry in os.listdir(folder)):  # of older repositories
            patterns = [*patterns, "pytorch_model*.bin"]
            folder = huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=patterns)
        return folder
    except Exception as error:  # of the network, of the disk, of a hub that is down
        raise _out_of_reach(model, str(error).strip().splitlines()[0], patterns) from error


def _out_of_reach(model: str, reason: str, patterns: Sequence[str]) -> ValueError:
    """With the command that fetches the files that the engine reads, and no other framework's weights."""
    name, _, revision = model.partition("@")
    options = ["--revision", revision] if revision else []
    for pattern in patterns:
        options += ["--include", pattern]
    command = shlex.join(["hf", "download", name, *options, "--local-dir", "FOLDER"])
    return ValueError(
        f"the weights {model} are no folder here, and cannot be fetched ({reason}); where there is a network, run "
        f"{command}, copy FOLDER here, and pass --model FOLDER"
    )
