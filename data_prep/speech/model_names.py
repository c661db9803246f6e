"""A recogniser by name: which repository of the hub holds its weights for each engine, and of which commit they are."""

import os

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
        "vocab.json",
        "normalizer.json",
        "model.safetensors",
        "model-*-of-*.safetensors",
    ],
    "faster-whisper": ["*.json", "vocabulary.*", "model.bin"],
}
_TIMEOUT = 10  # seconds, of the first request


def repository(engine: str, model: str) -> str:
    """ "tiny.en", or "openai/whisper-tiny.en" → the engine's own repository; other names of the hub stay."""
    size = model.removeprefix(_OWNERS["transformers"])
    if size not in SIZES:
        return model
    return _TURBO if engine == "faster-whisper" and size.endswith("turbo") else _OWNERS[engine] + size


def resolve(engine: str, model: str) -> str:
    """A folder stays a folder, and REPOSITORY@COMMIT what it is. Another name becomes REPOSITORY@COMMIT.

    The commit is the hub's latest, or else the latest in its local cache.
    Where there is neither, it becomes REPOSITORY; `local_folder` then says what to fetch, should the weights be needed.
    Raises ValueError for a name that the hub does not know, or that none could have.
    """
    if os.path.isdir(model) or "@" in model:
        return model
    name, forms = repository(engine, model), f"--model takes a folder, OWNER/NAME, or one of {', '.join(SIZES)}"
    if "/" not in name:
        raise ValueError(f"there is no folder {model}, and no such size; {forms}")
    try:
        return f"{name}@{huggingface_hub.HfApi().model_info(name, revision='main', timeout=_TIMEOUT).sha}"
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ValueError(f"the hub has no model {name}, or a private one; {forms}") from error
    except Exception:  # of the network; they have no common base
        commits = _in_cache(name)
        return f"{name}@{commits[0]}" if commits else name


def _in_cache(name: str) -> list[str]:
    """Commits of a repository that the hub's local cache holds, the latest first."""
    try:
        repositories = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    except errors.CacheNotFound:
        return []
    found = [
        revision
        for one in repositories
        for revision in one.revisions
        if one.repo_id == name and any(file.file_name.endswith((".bin", ".safetensors")) for file in revision.files)
    ]
    return [one.commit_hash for one in sorted(found, key=lambda one: one.last_modified, reverse=True)]


def local_folder(engine: str, model: str) -> str:
    """The folder of a model that `resolve` gave, downloaded into the hub's cache where it is not there.

    Raises ValueError that says what to fetch where the hub cannot be reached.
    """
    if os.path.isdir(model):
        return model
    name, _, commit = model.partition("@")
    patterns = _FILES[engine]
    try:
        folder = huggingface_hub.snapshot_download(name, revision=commit or None, allow_patterns=patterns)
        if not any(entry.endswith((".bin", ".safetensors")) for entry in os.listdir(folder)):  # of older repositories
            patterns = [*patterns, "pytorch_model*.bin"]
            folder = huggingface_hub.snapshot_download(name, revision=commit or None, allow_patterns=patterns)
        return folder
    except Exception as error:  # of the network, of the disk, of a hub that is down
        raise ValueError(
            f"the weights {model} cannot be fetched ({str(error).strip().splitlines()[0]}); where there is a network, "
            f"run hf download {name}{f' --revision {commit}' if commit else ''} --local-dir FOLDER, copy FOLDER here, "
            "and pass --model FOLDER"
        ) from error
