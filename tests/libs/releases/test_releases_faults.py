"""Refused releases as a service tells its caller."""

from __future__ import annotations

import pytest

from headrace.hop.errors import Code, Reason
from headrace.releases import FrozenError, ReleaseError, StaleError
from headrace.releases.errors import UnreleasedError
from headrace.releases.faults import refused
from headrace.releases.records.audit import UnrecordedError


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ReleaseError("p", ["a", "b"]), Code.INVALID_ARGUMENT, Reason.REASON_RELEASE_INVALID),
        (StaleError("p", 3, 4), Code.ABORTED, Reason.REASON_RELEASE_STALE),
        (UnreleasedError("p"), Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN),
        (
            UnrecordedError("p", OSError(28, "No space left on device")),
            Code.UNAVAILABLE,
            Reason.REASON_RELEASES_UNAVAILABLE,
        ),
    ],
)
def test_each_error_has_its_code_and_names_the_pipeline(error: ReleaseError, code: Code, reason: int) -> None:
    fault = refused(error)
    assert (fault.code, fault.reason, fault.metadata["pipeline"]) == (code, reason, "p")


def test_all_problems_are_said_and_bounded() -> None:
    assert refused(ReleaseError("p", ["a", "b"])).message == "a; b"
    assert len(refused(ReleaseError("p" * 1000, ["x" * 9000])).metadata["problems"]) == 1500


def test_a_freeze_says_whose_it_is() -> None:
    fault = refused(FrozenError("p", "ann", "holiday"))
    assert fault.reason == Reason.REASON_RELEASE_FROZEN
    assert (fault.metadata["author"], fault.metadata["reason"]) == ("ann", "holiday")
