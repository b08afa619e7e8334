"""What a door that is sent anything at all must not do: end, refuse the next sound request, meet what it did not expect."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system import System, row_request


@contextmanager
def nothing_unexpected(system: System) -> Iterator[None]:
    """Whatever is sent meanwhile, the same process serves afterwards, and its log tells of no bug."""
    logs = {log: log.stat().st_size for log in system.logs("ingress")}
    pids = system.pids("ingress")
    yield
    assert system.pids("ingress") == pids
    assert system.predict(row_request(system.rows[0])).predictions[0].outputs["probability"] >= 0
    told = b"".join(_since(log, begin) for log, begin in logs.items())
    bugs = [line for line in told.splitlines() if b'"unexpected"' in line or b"Traceback" in line]
    assert not bugs, f"{len(bugs)} such as {json.dumps(bugs[0].decode())[:3000]}"


def _since(log: Path, begin: int) -> bytes:
    told = log.read_bytes()
    return told[begin:] if len(told) >= begin else told  # it was begun anew meanwhile
