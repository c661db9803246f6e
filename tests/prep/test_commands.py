"""How commands end: errors and Ctrl-C are a line and an exit code, mistakes in the code are not hidden. And weights."""

import os
import signal
import threading
import time

import pytest

from data_prep.commands import shared


def _raise(error: BaseException):
    raise error


@pytest.mark.parametrize("error", [ValueError("a bad \udcff name"), OSError("disk full")])
def test_an_error_is_one_line_and_code_1(error, capsys):
    assert shared.run("data_prep.x", lambda: _raise(error)) == 1
    assert capsys.readouterr().err == f"data_prep.x: {error}\n".replace("\udcff", "\\udcff")


def test_what_the_command_returns_is_the_code():
    assert [shared.run("x", lambda code=code: code) for code in (0, 1)] == [0, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_one_line_and_code_130(number, capsys):
    def stopped() -> int:
        os.kill(os.getpid(), number)
        time.sleep(30)  # another thread may receive it, and this one hears of it a moment later
        return 0

    original = signal.signal(number, signal.SIG_DFL)  # as a library, or a shell, may have left it
    try:
        assert shared.run("data_prep.x", stopped, "stopped; go on") == 130
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, original)
    assert capsys.readouterr().err == "data_prep.x: stopped; go on\n"


def test_a_mistake_keeps_its_traceback():
    with pytest.raises(TypeError, match="ours"):
        shared.run("x", lambda: _raise(TypeError("ours")))


def test_it_runs_beside_the_main_thread():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(shared.run("x", lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_weights_are_a_path_that_is_there_or_a_name_on_a_hub(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "huge.pth").touch()
    monkeypatch.chdir(tmp_path)
    for given in ("model", "./model", "huge.pth", str(tmp_path / "model")):
        assert shared.weights("--weights", given) == str(tmp_path / os.path.basename(given))
    for name in ("large-v3", "facebook/pe-av-base"):
        assert shared.weights("--weights", name) == name
    for lost in ("./lost", "~/lost", "/lost", "weights/org/name", "lost/", "lost.pth", "weights/lost.safetensors"):
        with pytest.raises(ValueError, match=f"--weights {lost}: no such file or folder here"):
            shared.weights("--weights", lost)
