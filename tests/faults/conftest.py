"""Faults are provoked in the apart shape, where a service is a process that can be killed, unless a test asks for another
by `@pytest.mark.parametrize("system", [...], indirect=True)`: "together"; "small disk", which is apart in a home that has a
disk of its own. Each is started once."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.disks import own_disk, shrink
from tests.faults.traffic import add_hurried
from tests.system import HOME, System, prepared

_HERE = Path(__file__).parent
_USUAL = "apart"
_KINDS = (_USUAL, "together", "small disk")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Names the system of each test, so that those of one kind share it."""
    asked = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "system" in metafunc.fixturenames and "system" not in asked:
        metafunc.parametrize("system", [_USUAL], indirect=True, scope="session", ids=[pytest.HIDDEN_PARAM])


# Last: pytest's own order goes back and forth between the kinds, and each change is a start of a whole system (half a minute).
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests of this folder by the system that they need; the others stay where they are."""
    ours = [place for place, item in enumerate(items) if item.path.is_relative_to(_HERE)]
    ordered = sorted((items[place] for place in ours), key=_kind)
    for place, item in zip(ours, ordered, strict=True):
        items[place] = item


def _kind(item: pytest.Item) -> int:
    parameters: dict[str, object] = (
        item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    )
    return _KINDS.index(str(parameters["system"])) if "system" in parameters else -1


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    kind = request.param
    with ExitStack() as stack:
        if kind == "small disk":
            prepared()
            stack.enter_context(own_disk(HOME))
        # Where the features service is stopped, a request that has a second must not spend all of it on that.
        router = {"features_timeout_s": 0.5} if kind == _USUAL else {}
        running = System.up("together" if kind == "together" else "apart", router=router)
        stack.callback(running.down)
        add_hurried(running)
        if kind == "small disk":
            shrink(HOME, room_mib=64)
        yield running
