"""Files are written whole or not at all."""

import json

import pytest

from data_prep.files import replacing, write_json


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.json"
    write_json(str(path), {"name": "é", "numbers": [1]})
    assert path.read_text(encoding="utf-8") == '{\n "name": "é",\n "numbers": [\n  1\n ]\n}'
    with pytest.raises(TypeError):
        write_json(str(path), {"name": object()})
    with pytest.raises(KeyboardInterrupt), replacing(str(path)) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é", "numbers": [1]}
    assert list(tmp_path.iterdir()) == [path]


def test_spacing_and_end_are_the_callers(tmp_path):
    write_json(str(tmp_path / "a.json"), [1, 2], indent=0, end="\n")
    assert (tmp_path / "a.json").read_text() == "[\n1,\n2\n]\n"
