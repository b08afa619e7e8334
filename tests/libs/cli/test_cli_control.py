"""The socket through which commands talk to the supervisor."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.supervision import control


async def echoed(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"got": dict(request)}


async def test_a_request_is_answered_and_the_socket_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with control.serving(path, echoed):
        assert await asyncio.to_thread(control.ask, path, {"do": "it"}, 10) == {"got": {"do": "it"}}
        assert list(tmp_path.iterdir()) == [path]
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_supervisor_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    for left in (path, tmp_path / "control.sock.new"):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(left))
    async with control.serving(path, echoed):
        assert await asyncio.to_thread(control.ask, path, {}, 10) == {"got": {}}


async def test_who_sees_the_socket_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control.sock"
    seen: list[bool] = []
    listen = socket.socket.listen

    def late(own: socket.socket, *backlog: int) -> None:
        seen.append(path.exists())  # who waits for the socket may look at this moment
        listen(own, *backlog)

    monkeypatch.setattr(socket.socket, "listen", late)
    async with control.serving(path, echoed):
        assert seen == [False]
        assert path.exists()
