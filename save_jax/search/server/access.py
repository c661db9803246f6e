"""Who may ask a server: the names under which it is reached, and the token where others could reach it, too."""

import dataclasses
import functools
import hashlib
import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Collection

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LEAST = 16  # characters of a token
_ANY = ("0.0.0.0", "::", "")


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches a server on this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_token(token: str, source: str) -> str:
    """The token. Raises ValueError for one that is short, or that no header can hold."""
    token = token.strip()
    if len(token) < _LEAST or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{source} holds no token of {_LEAST} or more letters and digits in one line; make one with "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _in_header(name: str) -> str:
    name = name.lower().removeprefix("::ffff:")  # an address of IPv4 on a socket of IPv6
    return f"[{name}]" if ":" in name else name


@dataclasses.dataclass(frozen=True)
class Access:
    """What a request must bring along. Without a port, any port of this machine will do: for tests and notebooks."""

    host: str = "127.0.0.1"
    port: int | None = None
    token: str = ""
    names: Collection[str] = ()  # further ones under which it is reached, with a port where it is another
    _once: set[str] = dataclasses.field(default_factory=set, repr=False)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    @functools.cached_property
    def hosts(self) -> set[str]:
        """What a Host header may say, but for its port where none is given. Looked up once."""
        own = [self.host] if self.host not in _ANY else [socket.gethostname(), socket.getfqdn()]
        return self._with_port({*LOOPBACK, *map(_in_header, own)}) | {name.lower() for name in self.names}

    def knows_host(self, host: str, address: str = "") -> bool:
        """
        Args:
            host: a Host header.
            address: of this machine, at which the connection arrived; a name where the server listens on all of them.
        """
        host = host.lower()
        if self.port is None:
            name, colon, port = host.rpartition(":")
            if colon and port.isascii() and port.isdigit():
                host = name
        if host in self.hosts:
            return True
        return self.host in _ANY and bool(address) and host in self._with_port({_in_header(address)})

    def _with_port(self, hosts: set[str]) -> set[str]:
        if self.port is None:
            return hosts
        return {f"{name}:{self.port}" for name in hosts} | (hosts if self.port == 80 else set())

    # ---------------------------------------------------------------- token

    @property
    def cookie(self) -> str:
        """Its name: cookies are shared by all ports of a host."""
        return f"save_jax_{self.port or 0}"

    @property
    def cookie_value(self) -> str:
        """Made of the token, which itself stays out of the browser."""
        return hashlib.sha256(f"save_jax cookie {self.token}".encode()).hexdigest()

    def knows_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token.encode())

    def knows_cookie(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.cookie_value.encode())

    def once(self) -> str:
        """A token that is good for one address: a browser's command line can be read by others."""
        made = secrets.token_urlsafe()
        with self._lock:
            self._once.add(made)
        return made

    def take_once(self, token: str) -> bool:
        """Whether it is such a token; from then on it is none."""
        with self._lock:
            found = token in self._once
            self._once.discard(token)
        return found
