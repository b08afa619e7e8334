"""What a door that is sent anything at all must not do: end, refuse the next sound request, meet what it did not expect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.installation import layout
from tests.system import HOME, System, row_request


@contextmanager
def nothing_unexpected(system: System) -> Iterator[None]:
    """Whatever is sent meanwhile, the same process serves afterwards, and its log tells of no bug."""
    log = layout.of(HOME).log("ingress")
    begin, pid = log.stat().st_size, system.pid("ingress")
    yield
    assert system.pid("ingress") == pid
    assert system.predict(row_request(system.rows[0])).predictions[0].outputs["probability"] >= 0
    told = log.read_bytes()
    told = told[begin:] if len(told) >= begin else told  # it was begun anew meanwhile
    bugs = [line for line in told.splitlines() if b'"unexpected"' in line or b"Traceback" in line]
    assert not bugs, f"{len(bugs)} such as {json.dumps(bugs[0].decode())[:3000]}"
