"""Turns at what takes long: a bounded line, in which nobody stands who left."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

LOOK = 0.2  # seconds from one look for a client to the next
T = TypeVar("T")
HasLeft = Callable[[], Awaitable[bool]]  # such as `Request.is_disconnected`


class Left(Exception):
    """The client is gone: nobody reads an answer."""


class Crowded(Exception):
    """Too many wait already."""


class Turns:
    """A few threads of one kind of work, and a line for them. For one event loop."""

    def __init__(self, at_once: int, most: int):
        """
        Args:
            at_once: threads.
            most: requests that wait or are served.
        """
        self._at_once, self._most, self._here = at_once, most, 0
        self._limiter: CapacityLimiter | None = None  # made in the loop that it is for

    async def take(self, work: Callable[[], T], left: HasLeft) -> T:
        """`work()` in a thread. Raises Crowded, and Left where the client goes before it begins."""
        if self._here >= self._most:
            raise Crowded
        limiter = self._limiter = self._limiter or CapacityLimiter(self._at_once)
        self._here += 1
        try:
            return await while_there(lambda: to_thread.run_sync(work, limiter=limiter), left)
        finally:
            self._here -= 1


async def while_there(work: Callable[[], Awaitable[T]], left: HasLeft, leave: Callable[[], None] = lambda: None) -> T:
    """What `work` gives. It is cancelled when the client leaves, but for a thread that has begun, and Left is raised.

    `leave`: called once the client left.
    """
    done: list[T] = []
    failed: Exception | None = None

    async def look(scope: anyio.CancelScope) -> None:
        while not await left():
            await anyio.sleep(LOOK)
        leave()
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, tasks.cancel_scope)
        try:
            done.append(await work())
        except Exception as error:  # raised below, by itself and in no group
            failed = error
        tasks.cancel_scope.cancel()
    if failed:
        raise failed
    if not done:
        raise Left
    return done[0]
