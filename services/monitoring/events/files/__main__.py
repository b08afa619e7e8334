"""The process that has the files of events; `worker.py` starts it."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

from services.monitoring.events.files.location import why
from services.monitoring.events.files.parquet import EventFiles
from services.monitoring.events.files.worker import WorkerError
from services.monitoring.events.values import FileDamagedError

# Below the services of the machine.
_NICE = 10
# What the process needs beside DuckDB: the interpreter, Arrow, a file as a whole.
_OWN_BYTES = 1 << 30


def main(descriptor: int) -> None:
    """Serves calls until the other end is closed."""
    os.nice(_NICE)
    pipe = Connection(descriptor)
    location, memory_bytes, threads = pipe.recv()
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes + _OWN_BYTES,) * 2)
    files = EventFiles(location, memory_bytes, threads)
    while True:
        method, args, named = pipe.recv()
        try:
            answer = True, getattr(files, method)(*args, **named)
        except FileDamagedError as error:
            answer = False, error
        except MemoryError:
            answer = False, WorkerError("it needs more memory than questions may have")
        except OSError as error:
            answer = False, WorkerError(why(error))
        except Exception as error:  # noqa: BLE001 - a question that fails ends nothing but itself
            traceback.print_exc()
            answer = False, WorkerError(f"it failed: {type(error).__name__}")
        pipe.send(answer)


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        main(int(sys.argv[1]))
