"""`python -m headrace.cli.gameday.guard FOLDER`: undoes a fault when the process that started it ends, however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.cli.gameday.undo import Undo

_PATIENCE_S = 30.0


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Within the context a guard watches over this process. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "guard.log").open("ab") as log:
        # In a session of its own: Ctrl-C and the terminal's end must not reach it.
        guard = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", "headrace.cli.gameday.guard", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(_PATIENCE_S)


def main(folder: Path) -> None:
    """Waits, then undoes what is still noted."""
    sys.stdin.buffer.read()
    for line in Undo(folder).apply():
        print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
