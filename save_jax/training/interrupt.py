"""SIGTERM and Ctrl-C end a run at the next step: the loop looks here, saves, and ends."""

import signal

from save_jax import sharding


class Stopped(SystemExit):
    """A signal ended the run after it was saved. The exit code is 128 + signal, as of a shell."""


class StopSignals:
    """Notes the first SIGTERM or SIGINT. A second one ends the process at once."""

    def __init__(self):
        self.received: list[int] = []
        self._handlers = {sig: signal.signal(sig, self._note) for sig in (signal.SIGTERM, signal.SIGINT)}

    def _note(self, sig: int, _) -> None:
        self.received.append(sig)
        self.release()

    def release(self) -> None:
        """Restores the handlers from before."""
        for sig, handler in self._handlers.items():
            signal.signal(sig, handler)

    def end(self, step: int | None = None) -> None:
        """Raises Stopped. Says at which step; None: everything is said and saved already."""
        if step is not None:
            by = signal.Signals(self.received[0]).name if self.received else "a signal to another process"
            sharding.say(f"stopped by {by} at step {step}; the same command goes on from here")
        raise Stopped(128 + (self.received or [signal.SIGTERM])[0])
