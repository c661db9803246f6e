"""Whether the files of a folder are one model: Whisper as CTranslate2 keeps it, whose parts people copy one by one.

CTranslate2 loads parts of two models together without a word, and then invents text or decodes for minutes. A tokenizer
that is missing would be fetched from the network.
"""

import json
import os
import struct

_TIMES = 1501  # tokens of time stamps, which tokenizers of English-only models do not list
_MULTILINGUAL = 51_865  # tokens; English-only models have one fewer
_END = "<|endoftext|>"
# Versions of CTranslate2's format that `_shapes` reads. Those before gave other sizes, and it loads none of them.
_VERSIONS = range(4, 7)
_MELS = 80  # which faster-whisper computes where no file says how many


def check_form(engine: str, folder: str) -> None:
    """Raises ValueError that names the other engine, where the weights are in its form alone."""
    here = set(os.listdir(folder))
    forms = {
        "faster-whisper": "model.bin" in here,
        "transformers": any(name.endswith((".safetensors", "pytorch_model.bin")) for name in here),
    }
    [other] = forms.keys() - {engine}
    if forms[other] and not forms[engine]:
        raise ValueError(f"its weights are in the form of {other}: take --engine {other}")


def check(folder: str) -> None:
    """Reads all but the weights. Raises ValueError that names the part that is missing, cut or of another model."""
    here = set(os.listdir(folder))
    missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if name not in here]
    missing += [] if here & {"vocabulary.json", "vocabulary.txt"} else ["vocabulary.json"]
    if missing:
        raise ValueError(f"it has no {', no '.join(missing)}")
    vocabulary = _vocabulary(folder)
    ids = _tokenizer(folder)
    tokens = max(ids.values(), default=-1) + 1
    if tokens not in (vocabulary, vocabulary - _TIMES):
        raise ValueError(f"tokenizer.json has {tokens:,} tokens, the vocabulary {vocabulary:,}: parts of two models")
    begin = _json(folder, "config.json").get("suppress_ids_begin")
    if begin and _END in ids and ids[_END] not in begin:
        raise ValueError(f"config.json takes {max(begin)} for {_END}, tokenizer.json {ids[_END]}: parts of two models")
    shapes = _shapes(os.path.join(folder, "model.bin"))
    rows, *_ = shapes.get("decoder/embeddings/weight", [vocabulary])
    if rows != vocabulary:
        raise ValueError(f"model.bin knows {rows:,} tokens, the vocabulary {vocabulary:,}: parts of two models")
    name = "preprocessor_config.json"
    mels = _json(folder, name).get("feature_size", _MELS) if name in here else _MELS
    _, takes, *_ = shapes.get("encoder/conv1/weight", [0, mels])
    if takes != mels:
        what = f"{name} makes {mels}: parts of two models" if name in here else f"it has no {name}, which says so"
        raise ValueError(f"model.bin takes {takes} mel frequencies, {what}")


def multilingual(engine: str, folder: str) -> bool:
    """Whether the model of a folder knows more than English; True where nothing says so."""
    try:
        if engine == "faster-whisper":
            return _vocabulary(folder) >= _MULTILINGUAL
        return _json(folder, "generation_config.json").get("is_multilingual", True)
    except (OSError, ValueError):
        return True


def _json(folder: str, name: str) -> dict:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{name} is no JSON, or cut ({error})") from error
    return content if isinstance(content, dict) else {"": content}


def _vocabulary(folder: str) -> int:
    """Its tokens."""
    if os.path.exists(os.path.join(folder, "vocabulary.json")):
        tokens = _json(folder, "vocabulary.json").get("")
        if not isinstance(tokens, list):
            raise ValueError("vocabulary.json is no list of tokens; ct2-transformers-converter makes one")
        return len(tokens)
    with open(os.path.join(folder, "vocabulary.txt"), "rb") as file:
        return sum(1 for _ in file)


def _tokenizer(folder: str) -> dict[str, int]:
    content = _json(folder, "tokenizer.json")
    try:
        return content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"tokenizer.json is no tokenizer ({type(error).__name__}: {error})") from error


def _shapes(path: str) -> dict[str, list[int]]:
    """Name of each tensor → its shape; {} for a file of another form, or of one that only CTranslate2 knows.

    Raises ValueError for a version that the installed CTranslate2 does not read. The format is CTranslate2's: a head,
    then for each variable its name, shape, type, size and bytes.
    """
    size, shapes = os.path.getsize(path), {}

    with open(path, "rb") as file:

        def number(form: str) -> int:
            return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]

        def name() -> str:
            return file.read(number("H")).rstrip(b"\0").decode(errors="replace")

        try:
            if (version := number("I")) not in _VERSIONS:
                _check_version(version)
                return {}
            if name() != "WhisperSpec":
                return {}
            number("I")
            for _ in range(number("I")):
                variable = name()
                shapes[variable] = [number("I") for _ in range(number("B"))]
                number("B")
                end = number("I") + file.tell()
                if end > size:
                    raise ValueError(f"model.bin is cut: it has {size:,} bytes, {variable} ends at {end:,}")
                file.seek(end)
        except struct.error:
            raise ValueError(f"model.bin is cut: it has {size:,} bytes, and ends in the middle") from None
    return shapes


def _check_version(version: int) -> None:
    """CTranslate2 itself speaks of a version that is too new only when it loads, and of one too old not at all."""
    import ctranslate2
    from ctranslate2.specs import model_spec  # imports torch where it is installed: only where it is needed

    newest = model_spec.CURRENT_BINARY_VERSION
    if version > 255:  # the first bytes are others': a page that was saved, a pointer of Git LFS in place of the file
        first = struct.pack("<I", version)
        raise ValueError(f"model.bin is no model of CTranslate2: it begins with {first}; copy it again")
    if not _VERSIONS[0] <= version <= newest:
        raise ValueError(
            f"model.bin is of version {version}, and CTranslate2 {ctranslate2.__version__}, which is installed, reads "
            f"{_VERSIONS[0]} to {newest}: convert the model again with its ct2-transformers-converter"
            f"{', or install a later CTranslate2' * (version > newest)}"
        )
