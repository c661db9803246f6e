"""`save-jax search serve` as a process: what it prints, refuses, hides, and how it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from helpers.library import write_video
from helpers.made_run import make_run, plain_clips
from helpers.server import Served, id_of

from save_jax.search import command
from save_jax.search.store import Store

TOKEN = "a-token-of-the-test-1234567"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index by the command line, and its model."""
    folder = tmp_path_factory.mktemp("serve")
    run = make_run(folder, "vision", plain_clips(8))
    write_video(folder / "mine" / "a.mp4", 3, 1, ["a red car"])
    arguments = [
        "index",
        str(folder / "mine"),
        "--index",
        str(folder / "lib\u202e"),
        "--model",
        str(run),
        "--jobs",
        "1",
    ]
    args = command.parser().parse_args(arguments)
    assert args.do(args) == 0
    return folder / "lib\u202e", run


@pytest.fixture
def type_in(monkeypatch, capsys):
    """(status, errors) of what is typed."""
    monkeypatch.delenv("SAVE_JAX_TOKEN", raising=False)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["search", *map(str, words)])
        status = command.main()
        return status, capsys.readouterr().err

    return run


def test_what_is_wrong_is_said_in_a_line_before_the_start(made, type_in, tmp_path, monkeypatch):
    lib, _ = made
    token, short = tmp_path / "token", tmp_path / "short"
    token.write_text(TOKEN)
    short.write_text("short")
    other = shutil.copytree(lib, tmp_path / "other")
    about = json.loads((other / "library.json").read_text())
    (other / "library.json").write_text(json.dumps(about | {"digest": "0" * 64}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            ([tmp_path / "none", "--port", "0"], "is no index"),
            ([lib, "--port", "0", "--model", tmp_path / "none"], "none"),
            ([lib, "--port", port], "cannot be listened on"),
            ([lib, "--port", "99999"], "ports go from 0 to 65535"),
            ([lib, "--port", "0", "--host", "0.0.0.0"], "takes a token"),
            ([lib, "--port", "0", "--host", "192.0.2.1"], "takes a token"),
            ([lib, "--port", "0", "--host", "::"], "takes a token"),
            ([lib, "--port", "0", "--token-file", short], "holds no token"),
            ([lib, "--port", "0", "--token-file", tmp_path / "none"], "No such file"),
            ([lib, "--port", "0", "--host", "no.such.host.invalid", "--token-file", token], "cannot be listened on"),
            ([lib, "--port", "0", "--preview-mb", "0"], "--preview-mb is 0"),
            ([other, "--port", "0"], "has other parameters"),
        ):
            status, err = type_in("serve", *words)
            lines = [line for line in err.splitlines() if line.startswith("error: ")]
            assert status == 1 and len(lines) == 1 and message in lines[0], (words, err)
            assert "Traceback" not in err and TOKEN not in err
    monkeypatch.setenv("SAVE_JAX_TOKEN", "short")
    assert "SAVE_JAX_TOKEN holds no token" in type_in("serve", lib, "--host", "0.0.0.0")[1]


def test_it_serves_hides_its_token_and_ends_at_once(made, tmp_path):
    """With a reader of news and a film under way, and a film that is being made."""
    lib, _ = made
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    arguments = [sys.executable, "-m", "save_jax.search", "serve", str(lib), "--port", "0", "--token-file", str(token)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = process.stdout.readline()
        assert line.startswith("lib\\u202e is at http://127.0.0.1:") and "Ctrl-C ends" in line
        server = Served(int(line.split("127.0.0.1:")[1].split("/")[0]), None)
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert server.get("/api/search?q=car").status == 401
        assert server.get(f"/?token={TOKEN}").status == 303
        found = server.get("/api/search?q=%22red+car%22", bearer).json()
        assert [hit["id"] for hit in found["hits"]] == [id_of_index(lib)]
        assert server.get(found["hits"][0]["media"], bearer | {"range": "bytes=0-9"}).status == 206
        streams = []
        for room in ("/api/progress", found["hits"][0]["media"]):
            connection = server.connect()
            head = f"GET {room} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nauthorization: Bearer {TOKEN}"
            connection.sendall(head.encode() + b"\r\n\r\n")
            connection.recv(10)
            streams.append(connection)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)  # streams that nobody reads would last a minute
        assert process.returncode == 130, err
        assert TOKEN not in line + out + err and "Traceback" not in err
        for connection in streams:
            connection.close()
    finally:
        process.kill()


def test_a_service_that_is_ended_takes_its_temporary_films_along(made, tmp_path):
    """Where the user's cache cannot be written, they lie in a temporary folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "temporary")}
    arguments = [sys.executable, "-m", "save_jax.search", "serve", str(made[0]), "--port", "0"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert "Ctrl-C ends" in process.stdout.readline()
        films = lambda: [name for name in os.listdir(tmp_path / "temporary") if "previews" in name]  # noqa: E731
        assert films()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in err, err
        assert not films()
    finally:
        process.kill()


def id_of_index(folder) -> str:
    class Opened:
        store = Store.open(str(folder))

    return id_of(Opened, "a.mp4")
