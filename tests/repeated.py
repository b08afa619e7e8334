"""What goes on in threads of its own while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def repeated(act: Callable[[], object], every_s: float = 0.2, threads: int = 1) -> Iterator[None]:
    """Does something again and again meanwhile; raises in the end what it raised."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_s):
            act()

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            yield
        finally:
            ended.set()
    for one in running:
        one.result()
