"""Followers of a small control, started as services start them, and ended with the test."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.hop.client.settings import ClientRules
from headrace.repository.storage.store import Store
from headrace.resources.apply import Compile, Limits
from headrace.resources.bootstrap import follow
from headrace.resources.follower import Follower
from headrace.resources.remote import RemoteControl
from tests.libs.resources.control_history import PUBLIC


@contextmanager
def following(
    target: str,
    root: Path | None = None,
    store: Store | None = None,
    service: str = "ingress",
    watcher: str = "door-1",
    limits: Limits | None = None,
    **compilers: Compile,
) -> Iterator[Follower]:
    """`target` "": no control."""
    control = RemoteControl(ClientRules(target)) if target else None
    follower = follow(service, watcher, [PUBLIC], control, root, store, compilers, limits)
    try:
        yield follower
    finally:
        follower.close()


def until(check: Callable[[], Any], timeout_s: float = 60) -> None:
    """Waits for what another thread does."""
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def keys(follower: Follower) -> dict[str, str]:
    view = follower.view
    assert view is not None
    return {n: view.snapshot.resources["key", n].content.decode() for n in view.snapshot.names("key")}
