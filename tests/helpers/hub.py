"""A Hugging Face hub on this machine: folders as repositories, served in the protocol that `huggingface_hub` speaks.

What it answers is what the real one does: a revision's commit, the tree of a commit, and files, small ones from where
they are asked for, large ones (LFS) by a redirect to a store.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = (".safetensors",)  # what .gitattributes gives to LFS
API = re.compile(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
STORE = "/store/"  # under another name of this machine: the client follows no redirect of a hub to itself


class Hub:
    """Repositories: their commits, what branches and tags mean, and the bytes of every file."""

    def __init__(self):
        self.address = ""
        self.commits: dict[tuple[str, str], dict[str, str]] = {}  # (repository, commit) → {path: SHA-256}
        self.refs: dict[tuple[str, str], str] = {}  # (repository, branch or tag) → commit
        self.sizes: dict[str, int] = {}
        self.store: dict[str, bytes] = {}  # SHA-256 → bytes, which a test may damage
        self.asked: list[str] = []  # "GET /path", in order

    def push(self, repository: str, folder: Path, *refs: str) -> str:
        """A commit of a folder's files, which `refs` (by default main) then mean; returns its hash."""
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            files[path.relative_to(folder).as_posix()] = digest
            self.store[digest], self.sizes[digest] = content, len(content)
        commit = hashlib.sha1(json.dumps([repository, files]).encode()).hexdigest()
        self.commits[repository, commit] = files
        self.refs |= {(repository, name): commit for name in refs or ("main",)}
        return commit

    def replace(self, repository: str, commit: str, path: str, content: bytes) -> None:
        """Other bytes than the commit is of, as after damage; what is said of the file stays."""
        self.store[self.commits[repository, commit][path]] = content

    def etag(self, path: str, digest: str) -> str:
        """Of LFS the SHA-256, of others the 40 digits of a blob."""
        return digest if path.endswith(LARGE) else digest[:40]

    def tree(self, repository: str, commit: str) -> list[dict]:
        """What the API lists, recursively."""
        files = self.commits[repository, commit]
        folders = sorted({path.rpartition("/")[0] for path in files} - {""})
        rows = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in folders]
        for path, digest in files.items():
            row = {"type": "file", "oid": digest[:40], "size": self.sizes[digest], "path": path}
            lfs = {"oid": digest, "size": self.sizes[digest], "pointerSize": 134}
            rows.append(row | ({"lfs": lfs} if path.endswith(LARGE) else {}))
        return rows


class _Refused(Exception):
    """(status, X-Error-Code, X-Error-Message)."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        try:
            if path.startswith(STORE):
                self._send(self.hub.store[path.removeprefix(STORE)], {}, body)
            elif match := API.fullmatch(path):
                self._api(*match.groups(), body)
            elif match := FILE.fullmatch(path):
                self._file(*match.groups(), body)
            else:
                raise _Refused(HTTPStatus.NOT_FOUND, "", "Not Found")
        except _Refused as refused:
            status, code, message = refused.args
            headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
            self._send(json.dumps({"error": message}).encode(), headers, body, status)

    def _commit(self, repository: str, revision: str) -> str:
        if repository not in {name for name, _ in self.hub.commits}:
            # To whoever is not logged in, the hub does not say whether there is a private one.
            raise _Refused(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")
        commit = self.hub.refs.get((repository, revision), revision)
        if (repository, commit) not in self.hub.commits:
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _api(self, repository: str, what: str, revision: str, body: bool) -> None:
        commit = self._commit(repository, revision)
        files = [{"rfilename": path} for path in self.hub.commits[repository, commit]]
        answer = {"id": repository, "modelId": repository, "sha": commit, "siblings": files, "tags": []}
        answer = answer if what == "revision" else self.hub.tree(repository, commit)
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"}, body)

    def _file(self, repository: str, revision: str, path: str, body: bool) -> None:
        commit = self._commit(repository, revision)
        if not (digest := self.hub.commits[repository, commit].get(path)):
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{self.hub.etag(path, digest)}"'}
        if path.endswith(LARGE):
            linked = {"X-Linked-Size": str(self.hub.sizes[digest]), "X-Linked-Etag": f'"{digest}"'}
            moved = {"Location": self.hub.address.replace("127.0.0.1", "localhost") + STORE + digest}
            self._send(b"", headers | linked | moved, body, HTTPStatus.FOUND)
        else:
            self._send(self.hub.store[digest], headers, body)

    def _send(self, content: bytes, headers: dict[str, str], body: bool, status: int = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """An empty hub at `address`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Makes this process ask the hub at an address: what HF_ENDPOINT and HF_HUB_CACHE do before the library starts."""
    settings = {"ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": True}
    settings["HUGGINGFACE_CO_URL_TEMPLATE"] = address + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)


def environment(address: str, cache: Path) -> dict[str, str]:
    """The same for a process to start."""
    return {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
