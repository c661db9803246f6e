"""`save-jax search serve LIBRARY`: the page and the HTTP API of an index, for this machine or behind a token."""

import argparse
import os
import signal
import sys
import webbrowser
from collections.abc import Callable
from types import FrameType

from save_jax.data.command_line import visible

PORT = 8765
TOKEN = "SAVE_JAX_TOKEN"


def add(commands, add_command: Callable) -> None:
    """Adds the command and its arguments."""
    command = add_command(commands, "serve", run, "search an index in the browser, and over HTTP")
    command.add_argument("library", help="folder of an index")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    command.add_argument("--port", type=int, default=PORT, help="0 for any (default: %(default)s)")
    command.add_argument("--model", default="", help="where the model lies now, if it moved")
    command.add_argument(
        "--token-file", default="", metavar="FILE",
        help=f"holds what everybody must send who asks (default: {TOKEN} of the environment; none on this machine)",
    )  # fmt: skip
    command.add_argument(
        "--name", action="append", default=[], metavar="HOST[:PORT]",
        help="a further name under which browsers reach it, such as that of a proxy; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--preview-mb", type=int, default=512, help="of films kept for browsers (default: %(default)s)"
    )
    command.add_argument("--open", action="store_true", help="open the page in the browser, where there is a screen")


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    from save_jax.search.server.access import is_loopback

    token = _token(args.token_file)
    if not is_loopback(args.host) and not token:
        raise ValueError(
            f"--host {args.host} lets other machines in, which takes a token: write one into a file of your own and "
            f"give --token-file FILE, or set {TOKEN}"
        )
    if args.preview_mb < 1:
        raise ValueError(f"--preview-mb is {args.preview_mb}; give at least 1")
    from save_jax.search.server import serving

    listening = serving.listen(args.host, args.port)  # what is soon found out is said before a model is read
    from save_jax.search.door import open_library
    from save_jax.search.server.access import Access
    from save_jax.search.server.app import make_app
    from save_jax.search.server.previews import Previews, folder_of
    from save_jax.search.store import Store
    from save_jax.training import process

    Store.open(args.library)
    port = listening.getsockname()[1]
    process.set_up_process()
    library = open_library(args.library, args.model)
    access = Access(args.host, port, token, tuple(args.name))
    access.hosts  # noqa: B018  # a slow name server is waited for now, and by no request
    name = visible(os.path.basename(os.path.abspath(args.library)))
    told = " (open it once with ?token=…)" if token else ""
    address = _address(args.host, port)
    films = Previews(folder_of(library.store.folder), args.preview_mb * 2**20)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # raised behind the server's end, where it is noticed
        signal.signal(signal.SIGTERM, _terminated)
        app = make_app(library, access, films=films)
        library.view  # noqa: B018  # the first question need not wait for it
        print(f"{name} is at {address}{told}; Ctrl-C ends", flush=True)
        if args.open and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
            webbrowser.open(address + (f"?token={access.once()}" if token else ""))
        serving.Server(app, films.stop).run([listening])
    except _Terminated:
        films.close()
        os._exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        films.close()
        print("stopped", file=sys.stderr, flush=True)
        os._exit(130)  # to take down JAX and the store would last seconds, and nothing is left to be written
    return 0


class _Terminated(BaseException):
    """SIGTERM came."""


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _token(path: str) -> str:
    """Raises ValueError for a file without one, and OSError for none."""
    from save_jax.search.server.access import check_token

    if path:
        with open(path, encoding="utf-8") as file:
            token = check_token(file.read(4096), path)
        if os.stat(path).st_mode & 0o077:
            print(f"{visible(path)} can be read by other users; chmod 600 keeps it yours", file=sys.stderr)
        return token
    given = os.environ.get(TOKEN, "")
    return check_token(given, TOKEN) if given else ""


def _address(host: str, port: int) -> str:
    name = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"
