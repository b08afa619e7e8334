"""An event loop whose time goes on only when nothing is ready to run, and then at once to the next timer.

It runs the callbacks of several simulated processes: those of one in their order, processes in an order by chance.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

# The simulated process that a callback belongs to; tasks inherit it. "": the network and what is outside.
PROCESS: ContextVar[str] = ContextVar("simulated_process", default="")
# What belongs to no process.
OUTSIDE = Context()
# A piece of work on a thread takes up to this long, seconds.
_THREAD_S = 0.002


class Blocking(Exception):  # noqa: N818 - an instruction, not an error
    """Raised by work on a thread that only waits: it ends with `value` after `seconds` of virtual time."""

    def __init__(self, seconds: float, value: Any) -> None:
        super().__init__(seconds)
        self.seconds, self.value = seconds, value


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


class _Ready:
    """In place of the loop's queue of callbacks. Those of a process that stands still wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self.still: set[str] = set()
        self._length = 0
        self._nothing = asyncio.Handle(lambda: None, (), loop)
        self._nothing.cancel()

    def append(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(PROCESS, "")  # type: ignore[attr-defined] # where asyncio keeps it
        self._queues.setdefault(process, deque()).append(handle)
        self._length += 1

    def popleft(self) -> asyncio.Handle:
        found = [q for name, q in self._queues.items() if q and name not in self.still]
        if not found:  # a process came to stand still in this very turn
            return self._nothing
        self._length -= 1
        return (found[0] if len(found) == 1 else random.choice(found)).popleft()

    def __len__(self) -> int:
        return self._length - sum(len(self._queues.get(name, ())) for name in self.still)

    def clear(self) -> None:
        self._queues.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: seconds. `before_waiting` is called whenever nothing is ready to run."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.before_waiting: Callable[[], None] = lambda: None
        super().__init__(_Selector(self))  # type: ignore[arg-type] # all that a loop without sockets needs
        # Sums of times may be too small by rounding; the loop would then wait for nothing again and again.
        self._clock_resolution = 1e-7
        self._ready = self.ready = _Ready(self)
        # All that run, so that none is collected as garbage.
        self._tasks: dict[str, dict[asyncio.Task[Any], None]] = {}
        self.set_task_factory(self._task)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, work: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override] # as called
        """Does the work at once, a moment later."""
        future = self.create_future()

        def end(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        def done() -> None:
            try:
                end(work(*arguments))
            except Blocking as blocking:
                self.call_later(blocking.seconds, end, blocking.value)
            except Exception as error:  # noqa: BLE001 - it belongs to who waits for the work
                if not future.done():
                    future.set_exception(error)

        self.call_later(random.uniform(0, _THREAD_S), done)
        return future

    def stop_process(self, process: str, seconds: float) -> None:
        """It stands still for so long."""
        self.ready.still.add(process)
        self.call_later(seconds, self.ready.still.discard, process, context=OUTSIDE)

    def end_process(self, process: str) -> None:
        """Cancels all its tasks. Nobody hears of what they still do, once the network has cut it off."""
        self.ready.still.discard(process)
        for task in list(self._tasks.get(process, ())):
            task.cancel()

    def _task(self, loop: Any, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        process = PROCESS.get() if context is None else context.get(PROCESS, "")
        task = asyncio.Task(work, loop=loop, context=context)
        tasks = self._tasks.setdefault(process, {})
        tasks[task] = None
        task.add_done_callback(lambda ended: tasks.pop(ended, None), context=OUTSIDE.copy())
        return task

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    def _write_to_self(self) -> None: ...


@contextmanager
def virtual_time(seed: int) -> Iterator[VirtualLoop]:
    """A loop whose time is `time.monotonic` of the whole process, and whose seed is that of all random numbers."""
    monotonic, wall, state = time.monotonic, time.time, random.getstate()
    loop = VirtualLoop()
    loop.set_exception_handler(lambda *_: None)  # tasks that a failed case leaves
    time.monotonic, time.time = loop.time, lambda: 1.7e9 + loop.now
    random.seed(seed)
    try:
        yield loop
    finally:
        loop.before_waiting = lambda: None
        loop.ready.still.clear()
        while left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        loop.close()
        time.monotonic, time.time = monotonic, wall
        random.setstate(state)
