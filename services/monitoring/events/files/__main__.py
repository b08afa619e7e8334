"""The process that has the files of events; `worker.py` starts it."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from services.monitoring.events.files.location import why
from services.monitoring.events.files.parquet import EventFiles
from services.monitoring.events.files.worker import WorkerError
from services.monitoring.events.values import FileDamagedError

# Below the services of the machine.
_NICE = 10
# What the process needs beside DuckDB: the interpreter, Arrow, a file as a whole.
_OWN_BYTES = 1 << 30


def answer(files: EventFiles, method: str, args: Sequence[object]) -> tuple[bool, Any]:
    """Whether it was done; what it gives, or the error."""
    try:
        return True, getattr(files, method)(*args)
    except FileDamagedError as error:
        return False, error
    except MemoryError:
        return False, WorkerError("it needs more memory than questions may have")
    except OSError as error:
        return False, WorkerError(why(error))
    except Exception as error:  # noqa: BLE001 - a question that fails ends nothing but itself
        traceback.print_exc()
        return False, WorkerError(f"it failed: {type(error).__name__}")


def main(descriptor: int) -> None:
    """Serves calls until the other end is closed."""
    os.nice(_NICE)
    pipe = Connection(descriptor)
    location, memory_bytes, threads = pipe.recv()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes + _OWN_BYTES,) * 2)
    files = EventFiles(location, memory_bytes, threads)
    while True:
        method, args = pipe.recv()
        pipe.send(answer(files, method, args))


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        main(int(sys.argv[1]))
