"""A pytest plugin of `python -m tests.slow`: writes what comes of each test to a file at once, and ends the run after its time.

The run ends between two tests, so that nothing is cut off: the next run of the file begins with the test after.
"""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FILE = "HEADRACE_TESTS_RESULTS"
SECONDS = "HEADRACE_TESTS_SECONDS"
_began = time.monotonic()
_test: dict[str, Any] = {}


def _write(**line: Any) -> None:
    with Path(os.environ[FILE]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _test.clear()
    _test.update(outcome="passed", why="", seconds=0.0)
    _write(started=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _test["seconds"] += report.duration
    if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
        _test.update(outcome=report.outcome, why=_test["why"] or _reason(report))


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else report.longreprtext
    return f"{report.when}: {text}"[:300]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Has the session stop after this test once the time is over."""
    done = yield
    if time.monotonic() - _began > float(os.environ[SECONDS]):
        item.session.shouldstop = "the time of this run is over"
    return done


def pytest_runtest_logfinish(nodeid: str) -> None:
    _write(test=nodeid, **_test)
