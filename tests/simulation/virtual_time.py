"""An event loop whose time goes on only when nothing is ready to run, and then at once to the next timer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Selector:
    """In place of sockets: instead of waiting, time goes on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "all tasks wait, and nothing is due"
        if timeout > 0:
            self._loop.before_waiting()
            self._loop.now += timeout
        return []

    def close(self) -> None: ...


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: seconds. `before_waiting` is called whenever nothing is ready to run."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.before_waiting: Callable[[], None] = lambda: None
        super().__init__(_Selector(self))  # type: ignore[arg-type] # all that a loop without sockets needs
        # Sums of times may be too small by rounding; the loop would then wait for nothing again and again.
        self._clock_resolution = 1e-7

    def time(self) -> float:
        return self.now

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        raise AssertionError("a thread in the simulation")

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    def _write_to_self(self) -> None: ...


@contextmanager
def virtual_time(seed: int) -> Iterator[VirtualLoop]:
    """A loop whose time is `time.monotonic` of the whole process, and whose seed is that of all random numbers."""
    monotonic, state = time.monotonic, random.getstate()
    loop = VirtualLoop()
    loop.set_exception_handler(lambda *_: None)  # tasks that a failed case leaves
    time.monotonic = loop.time
    random.seed(seed)
    try:
        yield loop
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
        time.monotonic = monotonic
        random.setstate(state)
