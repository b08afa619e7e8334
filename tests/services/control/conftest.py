"""A control on a thread of the tests' process, at a real socket, with a real database."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headrace.catalog.remote import RemoteRecords
from headrace.resources.manifest import new_keys
from tests.control_service import Here, control_here
from tests.services.control.following import Process

KEYS = new_keys()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Here]:
    with control_here(tmp_path, keys=KEYS) as found:
        yield found


@pytest.fixture
def records(control: Here) -> Iterator[RemoteRecords]:
    with closing(RemoteRecords(control.target)) as found:
        yield found


@pytest.fixture
def process(control: Here) -> Iterator[Callable[..., Process]]:
    """Makes processes of the data plane, by name and service."""
    with ExitStack() as stack:
        yield lambda name, service="router": stack.enter_context(
            Process(control.target, KEYS[1], name, service)
        )
