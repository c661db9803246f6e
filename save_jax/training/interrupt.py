"""SIGTERM and Ctrl-C, answered when it suits: the loop looks here, saves, and ends."""

import signal

from save_jax import sharding


class Stopped(SystemExit):
    """A signal ended the run after it was saved; the exit code is the shell's, 128 + signal."""


class StopSignals:
    """Notes the first SIGTERM or SIGINT. A second one ends the process at once."""

    def __init__(self):
        self.received: list[int] = []
        self._handlers = {sig: signal.signal(sig, self._note) for sig in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, sig: int, _) -> None:
        self.received.append(sig)
        self.release()

    def release(self) -> None:
        """From here on a signal does what it did before."""
        for sig, handler in self._handlers.items():
            signal.signal(sig, handler)

    def end(self, step: int | None = None) -> None:
        """Raises Stopped, and says at which step; None: all was said and saved."""
        if step is not None:
            by = signal.Signals(self.received[0]).name if self.received else "a signal to another process"
            sharding.say(f"stopped by {by} at step {step}; the same command goes on from here")
        raise Stopped(128 + (self.received or [signal.SIGTERM])[0])
