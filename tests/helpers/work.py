"""What tests give to workers. It lies in a module that a worker can import, as a test file is not."""

import os
import signal
import threading
import time
from typing import Any

from data_prep.clip import prepare


def square(number: int) -> int:
    """Earlier items take longer, so that results arrive out of order."""
    time.sleep(0.02 * (3 - number % 4))
    return number**2


class Trouble:
    """Each item names what happens to it."""

    def __call__(self, item: str) -> str:
        match item:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(3)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)  # not even a signal would end it
            case "sleep":
                time.sleep(60)
            case "value":
                raise ValueError("a file \udcff")
            case "odd":
                return {}["missing"]
        return item


def killed_while_sending(number: int) -> bytes:
    if number % 4 == 1:
        threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(4_000_000)


class Counting:
    """Loads something at its first call, as a recogniser loads its model."""

    def __init__(self):
        self.loaded = None

    def __getstate__(self) -> dict:
        return {"loaded": None}

    def __call__(self, _) -> tuple[int, float]:
        self.loaded = self.loaded or time.monotonic()
        time.sleep(0.01)
        return os.getpid(), self.loaded


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)

    def __call__(self, item):
        return item


def slow_first(number: int) -> int:
    time.sleep(1.0 if number == 0 else 0)
    return number


def kill_some(sample: Any, settings: dict) -> Any:
    """Dies on two clips and dawdles on a third, with others under way around them."""
    if sample.id in ("video2", "video8"):
        os.kill(os.getpid(), signal.SIGKILL)
    if sample.id == "video5":
        time.sleep(60)
    return prepare(sample, settings)
