"""What the commands of data_prep share: how they end, how they list failures, what an option for weights may name."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping

STOPPED = 130  # what a shell reports of a program that Ctrl-C ended
_SHOWN = 10  # lines of a list in a printed summary
_WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")


def run(name: str, command: Callable[[], int], stopped: str = "stopped") -> int:
    """The exit code of `command()`; 1 where it raises ValueError or OSError, 130 where Ctrl-C or `kill` ends it.

    Errors go to stderr in one line that begins with `name`; `stopped` says what a command that was ended leaves behind.
    Any other exception is a mistake in our code, and keeps its traceback.
    """
    here = threading.current_thread() is threading.main_thread()  # signals are nobody else's to handle
    signals = (signal.SIGINT, signal.SIGTERM) if here else ()
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        return command()
    except (ValueError, OSError) as error:
        reason = str(error).encode("utf-8", "backslashreplace").decode()  # it may name a file that is not UTF-8
        print(f"{name}: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return STOPPED
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def weights(option: str, given: str) -> str:
    """The absolute path of a file or folder that is there, so that every process finds it; else a name on a hub.

    Raises ValueError for what no hub has, "./model", "/data/model", "weights/org/model" or "model.pth", and is not
    there: said at once, not after packages were installed for it.
    """
    if os.path.exists(given):
        return os.path.abspath(given)
    if given.startswith((".", "/", "~")) or given.count("/") > 1 or given.endswith(("/", *_WEIGHT_FILES)):
        raise ValueError(f"{option} {given}: no such file or folder here, and a name on a hub has the form org/name")
    return given


def first_reasons(reasons: Mapping[str, str], full_list: str) -> list[str]:
    """A line for each of the first clips: id and reason. Where there are more, a last line names the file with all."""
    lines = [f"  {clip_id}: {reason}" for clip_id, reason in itertools.islice(reasons.items(), _SHOWN)]
    return lines if len(reasons) <= _SHOWN else [*lines, f"  … all of them in {full_list}"]
