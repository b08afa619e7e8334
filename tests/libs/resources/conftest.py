"""A small control on a socket, and what it has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.libs.resources.control_history import History, SmallControl, key, served


@pytest.fixture
def history() -> History:
    history = History()
    history.change(key("a", "1"), key("b", "1"))
    return history


@pytest.fixture
def control(history: History) -> SmallControl:
    return SmallControl(history)


@pytest.fixture
def target(control: SmallControl, tmp_path: Path) -> Iterator[str]:
    with served(control, tmp_path / "control.sock") as address:
        yield address
