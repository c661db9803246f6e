"""Text → ids: CLIP's tokens with CLIP's own cleaning, BERT's word pieces, and learning a small CLIP vocabulary.

Real runs load a tokenizer from the hub or from a local folder. The demo learns one from its training captions and
transcripts and keeps it with the shards.
"""

import hashlib
import html
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence

import ftfy
import numpy as np

# CLIP's pre-tokenisation, in the syntax of the Rust `tokenizers` library.
_PATTERN = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
START, END = "<|startoftext|>", "<|endoftext|>"
MIN_TRANSCRIPT_CHARACTERS = 5
_CHARACTERS_A_TOKEN = 8  # of a text, to begin with: more than tokens have, so that once is mostly enough
_KEPT = 100_000  # transcripts, 40 MB in every process that reads


def clean(text: str) -> str:
    """CLIP's cleaning: mend broken encodings, unescape HTML twice, fold white space, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def _find(source: str, name: str, files: str = "vocab.json and merges.txt") -> str:
    """Path of one of the tokenizer's `files`: in a local folder, in the hub's cache, or from the hub."""
    if os.path.isdir(source):
        path = os.path.join(source, name)
        if not os.path.exists(path):
            raise ValueError(f"tokenizer {source!r} lacks {name}; see config.data.tokenizer")
        return path
    import huggingface_hub

    try:
        return huggingface_hub.hf_hub_download(source, name, local_files_only=True)
    except Exception:  # not in the cache; the hub's errors have no common base
        try:
            # One request before the download, which would try an unreachable network again and again.
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(source, name), timeout=10)
            return huggingface_hub.hf_hub_download(source, name)
        except Exception as error:
            raise ValueError(
                f"tokenizer {source!r} is neither a folder, nor in the Hugging Face cache, nor to be had from its hub "
                f"({type(error).__name__}); set config.data.tokenizer to a folder with {files}"
            ) from error


def _digest(vocab: Mapping[str, int], merges: Sequence[tuple[str, ...]]) -> str:
    """SHA-256 of all that ids depend on. It does not depend on versions of libraries."""
    tokens = sorted(vocab.items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps([tokens, merges], ensure_ascii=True).encode()).hexdigest()


def _copy(paths: Mapping[str, str], folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    for name, path in paths.items():
        target = os.path.join(folder, name)
        if not (os.path.exists(target) and os.path.samefile(path, target)):
            shutil.copyfile(path, target)


def says_something(transcript: str) -> bool:
    """Whether a transcript counts. As in the reference, one of under five characters counts as missing."""
    return len(transcript.strip()) >= MIN_TRANSCRIPT_CHARACTERS


class WordPieces:
    """BERT's word pieces, lower case. `source`: a folder with vocab.txt, or a name on the Hugging Face hub."""

    def __init__(self, source: str):
        from tokenizers import BertWordPieceTokenizer

        path = _find(source, "vocab.txt", "vocab.txt")
        self.source, self._files = source, {"vocab.txt": path}
        self._tokenizer = BertWordPieceTokenizer(path, lowercase=True)
        self.digest = _digest(self._tokenizer.get_vocab(), [])
        self.vocab_size = self._tokenizer.get_vocab_size()
        if self._tokenizer.token_to_id("[UNK]") is None or self._tokenizer.token_to_id("[PAD]") != 0:
            raise ValueError(f"{path} is not BERT's: it needs [UNK], and [PAD] in its first line")

    def pieces(self, text: str) -> list[int]:
        """Ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def save(self, folder: str) -> None:
        """Copies the vocabulary's file."""
        _copy(self._files, folder)


def open_words(source: str) -> "Tokenizer | WordPieces":
    """Word pieces, or CLIP's tokens where `source` is a folder that holds those (such as the demo's)."""
    return Tokenizer(source) if os.path.exists(os.path.join(source, "merges.txt")) else WordPieces(source)


class Tokenizer:
    """CLIP byte-pair encoding. `source`: a folder with vocab.json and merges.txt, or a name on the Hugging Face hub."""

    def __init__(self, source: str):
        # Imported here: it takes half a second, which reading shards without texts does not need.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it warns that PyTorch is missing
        from transformers import CLIPTokenizer

        self.source, self._files = source, {name: _find(source, name) for name in ("vocab.json", "merges.txt")}
        with open(self._files["vocab.json"], encoding="utf-8") as file:
            vocab = json.load(file)
        with open(self._files["merges.txt"], encoding="utf-8") as file:
            lines = [line.split() for line in file if not line.startswith("#version")]
        merges = [tuple(line) for line in lines if len(line) == 2]
        # `vocab_file=`, `merges_file=` are accepted by transformers 5 and silently give wrong ids.
        whole = CLIPTokenizer(vocab=vocab, merges=merges)  # pyright: ignore[reportArgumentType] — declared as strings
        ids = whole.get_vocab()
        self.start, self.end = ids[START], ids[END]
        self.vocab_size = len(whole)
        # From here on the Rust tokenizer inside is enough. It pickles, so loader processes do not import transformers.
        self._tokenizer = whole.backend_tokenizer
        self.digest = _digest(vocab, merges)
        self._transcripts: dict[tuple[bytes, int], np.ndarray] = {}
        if self.end != self.vocab_size - 1:
            # The text tower finds the end of a text as its largest id.
            raise ValueError(
                f"tokenizer {source!r}: {END} has id {self.end}, must be the largest, {self.vocab_size - 1}"
            )

    def pieces(self, text: str) -> list[int]:
        """Ids of a text, without start and end."""
        return self._ids(clean(text))

    def _ids(self, cleaned: str) -> list[int]:
        return self._tokenizer.encode(cleaned, add_special_tokens=False).ids

    def _first(self, text: str, count: int) -> list[int]:
        """The first `count` of `pieces`, or all; of hours of speech no more is encoded than is needed."""
        cleaned, length = clean(text), _CHARACTERS_A_TOKEN * max(count, 1)
        while length < len(cleaned):
            # Words are encoded apart, so that a cut between them changes nothing before it.
            end = cleaned.rfind(" ", 0, length + 1)
            if end > 0 and len(ids := self._ids(cleaned[:end])) >= count:
                return ids[:count]
            length *= 4
        return self._ids(cleaned)[:count]

    def __call__(self, text: str, length: int) -> np.ndarray:
        """`[start] … [end]`, cut to `length` with the end kept, padded with 0. int32 [length].

        Texts under five characters are encoded like others; the reference leaves them empty.
        """
        ids = [self.start, *self._first(text, max(length - 2, 0))][: length - 1]
        out = np.zeros(length, np.int32)
        out[: len(ids) + 1] = [*ids, self.end]
        return out

    def save(self, folder: str) -> None:
        """Copies the vocabulary's files."""
        _copy(self._files, folder)

    def transcript(self, text: str, length: int) -> np.ndarray:
        """As `__call__`, but a missing transcript, or one under five characters, is all zeros. int32 [length].

        A transcript is read again with every caption of its video and in every epoch, so its ids are kept.
        """
        if not says_something(text):
            return np.zeros(length, np.int32)
        key = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest(), length
        if (ids := self._transcripts.get(key)) is None:
            ids = self(text, length)
            if len(self._transcripts) < _KEPT:
                self._transcripts[key] = ids.copy()
        return ids.copy()


def learn(texts: list[str], directory: str, vocab_size: int) -> None:
    """Learns a CLIP-shaped vocabulary of at most `vocab_size` tokens and writes vocab.json and merges.txt.

    The order is CLIP's: 256 byte tokens, the same with end-of-word mark, merges, start, end. So the end has the largest
    id. The result depends on words and their frequencies alone. Raises ValueError for a size below 514.
    """
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    least = 2 * len(pre_tokenizers.ByteLevel.alphabet()) + 2
    if vocab_size < least:
        raise ValueError(f"a vocabulary of {vocab_size} cannot hold all letters; give at least {least}")
    tokenizer = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters += [letter + "</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        end_of_word_suffix="</w>",
        # They come first and in order. Otherwise ids, and so ties between merges, change from call to call.
        special_tokens=letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator([clean(text) for text in texts], trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    kept = list(dict.fromkeys([*letters, *("".join(pair) for pair in merges)]))
    vocab = {token: number for number, token in enumerate([*kept, START, END])}
    os.makedirs(directory, exist_ok=True)
    for name, text in (
        ("vocab.json", json.dumps(vocab, ensure_ascii=False)),
        ("merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n"),
    ):
        temporary = os.path.join(directory, f".{name}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, os.path.join(directory, name))
