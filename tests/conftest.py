"""What all tests share: properties are not timed, processes that a test starts do not inherit its imports, CI skips nothing."""

import os
from collections.abc import Generator

import prometheus_client  # noqa: F401 - before Feast, whose import has metrics kept in files of a folder that tests do not keep
import pytest
from hypothesis import HealthCheck, settings

from tests.skips import forbidden

# The machine's speed is not what a property is about.
settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headrace")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Feast's import sets this; a process started with it keeps its metrics in files that it leaves behind."""
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)


# First, so that pytest's own step (the skip's place in the file, expected failures) is done before.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip that CI does not allow is a failure."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_if_forbidden(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module."""
    report = yield
    _fail_if_forbidden(report)
    return report


def _fail_if_forbidden(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome != "skipped":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if failure := forbidden(reason.removeprefix("Skipped: ")):
        report.outcome = "failed"
        report.longrepr = failure
