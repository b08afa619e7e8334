"""Events become predictions; figures, gauges, the panel and the service say the same of them."""

import math
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import accuracy_pb2, monitoring_pb2
from headrace.events import messages
from headrace.hop.errors import Reason
from headrace.hop.testing import served
from services.monitoring.accuracy.figures import VersionFigures, figures
from services.monitoring.accuracy.metrics import MOST_VERSIONS, AccuracyMetrics
from services.monitoring.accuracy.observer import PredictionObserver
from services.monitoring.accuracy.panel import AccuracyPanel
from services.monitoring.accuracy.records import Chosen, Maker, Prediction, VersionWindows, Window
from services.monitoring.console.ports import Panel
from services.monitoring.events.allowance import Allowance
from services.monitoring.wiring import SERVICE
from tests.services.monitoring.monitoring_calls import call, report
from tests.services.monitoring.monitoring_events import answered
from tests.services.monitoring.monitoring_outcomes import NOW

HOUR_S = 3600.0
VERSION = f"delay=7 ({'f' * 12})"


class Seen:
    """An observer, and how many rows it left out."""

    def __init__(self, probability: str | None = None, rows: int = 1000) -> None:
        self.left_out = 0
        self.observer = PredictionObserver(Allowance(10.0, rows), lambda *_: probability, self._leave)

    def _leave(self, rows: int) -> None:
        self.left_out += rows


def test_what_callers_got_waits_for_a_label() -> None:
    seen = Seen("p")
    seen.observer.observe_group(
        answered([1, 0, math.nan, 1], [0, 0, 0, 13], outputs=("late", "p", "omitted")), NOW
    )
    seen.observer.observe_group(answered([1], shadow_of="live"), NOW)
    seen.observer.observe_group(answered([1], replayed=True), NOW)
    [(maker, predictions)] = seen.observer.taken().items()
    assert maker == Maker("flights", 5, "live", VERSION)
    assert predictions == [
        Prediction("acme", "r1", 0, NOW, {"late": 1.0}, 0.75),
        Prediction("acme", "r2", 0, NOW, {"late": 0.0}, 0.75),
        Prediction("acme", "r3", 0, NOW, {}, None),
    ]
    assert seen.observer.taken() == {}
    seen.observer.observe_group(answered([1], first=9), NOW)
    seen.observer.put_back({maker: predictions})
    assert [p.request_id for p in seen.observer.taken()[maker]] == ["r1", "r2", "r3", "r9"]


@pytest.mark.parametrize(
    ("probability", "expected"),
    [("p", 0.75), ("both[0]", 0.25), ("both[2]", None), ("both[x]", None), ("word", None), ("x", None)],
)
def test_expected_accuracy_is_of_the_column_that_the_baseline_names(
    probability: str, expected: float | None
) -> None:
    # Without a truth value the more probable of two was said.
    for outputs, value in ((("late",), expected), ((), expected and 0.75)):
        seen = Seen(probability)
        seen.observer.observe_group(answered([1], outputs=outputs), NOW)
        [[prediction]] = seen.observer.taken().values()
        assert prediction.expected == value


def test_all_that_outcomes_compare_is_taken_and_what_chance_sent_even_if_it_failed() -> None:
    seen, arm = Seen(rows=1), ("flights", 5, "live")
    codes, drawn = [0, 0, 13, 13, 0], [True, False, True, False, True]
    for first in (1, 6):  # more than is allowed of others
        seen.observer.observe_group(
            answered([1] * 5, codes, first=first, drawn=drawn, keys=[*"ab", "c", *"da"]), NOW
        )
    taken = seen.observer.taken()
    assert {maker: [p.request_id for p in found] for maker, found in taken.items()} == {
        Maker(*arm, VERSION, Chosen.BY_CHANCE): ["r1", "r5", "r6", "r10"],
        Maker(*arm, "", Chosen.BY_CHANCE): ["r3", "r8"],
        Maker(*arm, VERSION, Chosen.BY_RULE): ["r2", "r7"],
    }
    [drawn_keys, failed_keys, keys_by_rule] = [[p.key for p in found] for found in taken.values()]
    assert len({*drawn_keys}) == 1 != len({*drawn_keys, *failed_keys})
    assert (keys_by_rule, seen.left_out) == ([None] * 2, 0)


def test_of_too_many_rows_a_part_is_recorded_and_the_rest_counted() -> None:
    seen = Seen(rows=5)
    for second in (0.0, 0.0, 0.25, 0.5):
        seen.observer.observe_group(answered([1] * 5), NOW + second)
    assert (sum(map(len, seen.observer.taken().values())), seen.left_out) == (10, 10)
    # A clock that was set back gives nothing, and stops nothing for long.
    seen.observer.observe_group(answered([1] * 5), NOW - 9000)
    seen.observer.observe_group(answered([1] * 5), NOW - 8999)
    assert seen.left_out == 15


def version(name: str, *windows: Window, pipeline: str = "flights", **delays: int) -> VersionWindows:
    return VersionWindows(pipeline, name, windows, {int(k[1:]): n for k, n in delays.items()})


def test_accuracy_is_of_windows_with_labels_enough_and_coverage_of_old_ones() -> None:
    hours = [
        Window(NOW, 100, 80, 8, 10, 9.0),
        Window(NOW + HOUR_S, 100, 20, 20),
        Window(NOW + 2 * HOUR_S, 100, 0),
    ]
    # Bucket 37 ends at 3,852 seconds: most labels of the newer windows cannot be there yet.
    [found] = figures([version("1", *hours, b37=100)], HOUR_S, 0.5, NOW + 3 * HOUR_S)
    assert found.accuracy == 0.9
    assert (found.judged_count, found.wrong_count, found.prediction_count) == (80, 8, 300)
    assert (found.told_window_count, found.window_count) == (1, 3)
    assert (found.coverage, found.expected_accuracy) == (0.8, 0.9)
    assert found.delays_s == pytest.approx((3851.86,) * 3, rel=1e-5)
    [later] = figures([version("1", *hours, b37=100)], HOUR_S, 0.5, NOW + 9 * HOUR_S)
    assert later.coverage == pytest.approx(100 / 300)


def test_a_version_without_labels_waits_as_long_as_its_pipeline_and_others_do_not() -> None:
    made = [
        version("1", Window(NOW, 10, 10), b0=10),
        version("2", Window(NOW + HOUR_S, 10)),
        version("3", Window(NOW, 10), pipeline="moderation"),
    ]
    found = figures(made, HOUR_S, 0.5, NOW + 5 * HOUR_S)
    assert [(f.version, f.coverage, f.accuracy) for f in found] == [
        ("2", 0.0, None),
        ("1", 1.0, 1.0),
        ("3", None, None),
    ]


def test_gauges_are_bounded_and_absent_where_nothing_is_known() -> None:
    registry = CollectorRegistry()
    metrics = AccuracyMetrics(registry)

    def value(name: str, version: str, **labels: str) -> float | None:
        return registry.get_sample_value(
            f"headrace_outcomes_{name}", {"pipeline": "flights", "version": version, **labels}
        )

    made = [version(str(i), Window(NOW + i * HOUR_S, 10, 10, 1), b0=10) for i in range(20)]
    metrics.looked(figures(made, HOUR_S, 0.5, NOW + 40 * HOUR_S))
    assert [value("accuracy", str(i)) for i in (19, 20 - MOST_VERSIONS, 11)] == [0.9, 0.9, None]
    assert value("delay_seconds", "19", share="0.9") == 1.0
    assert value("expected_accuracy", "19") is None
    metrics.looked(figures([version("1", Window(NOW, 10, 1), b0=1)], HOUR_S, 0.5, NOW + 9 * HOUR_S))
    assert (value("coverage", "1"), value("accuracy", "1"), value("accuracy", "19")) == (0.1, None, None)


async def test_the_panel_says_what_is_known_and_what_not() -> None:
    async def panel(*made: VersionWindows) -> Panel | None:
        async def read(_: str) -> list[VersionFigures]:
            return figures(made, HOUR_S, 0.5, NOW + 9 * HOUR_S)

        return await AccuracyPanel(read, 0.5)("flights")

    assert await panel() is None
    for level, sentence, made in (
        ("none", "No outcome was reported yet", version("1", Window(NOW, 10))),
        ("watch", "Too few predictions have", version("1", Window(NOW, 10, 1), b0=1)),
        ("none", "90\u00a0% of 90 predictions", version("1", Window(NOW, 100, 90, 9), b0=90)),
    ):
        found = await panel(made)
        assert found is not None
        assert (found.level, found.sentence[: len(sentence)]) == (level, sentence)
    assert [(row.label, row.value) for row in found.rows] == [
        ("1: accuracy", "90\u00a0%"),
        ("1: expected", "–"),
        ("1: coverage", "90\u00a0%"),
        ("1: labels come after", "1\u00a0s"),
    ]
    assert found.data["versions"][0]["accuracy"] == 0.9


async def test_events_and_outcomes_meet_in_the_service(tmp_path: Path) -> None:
    # No second goes by: what was gathered is stored when the service ends, too.
    for turn in range(2):
        async with served(SERVICE, {"database": str(tmp_path / "o")}) as harness:
            if turn == 0:
                await report(harness, events=messages.write("router", 7, 4, [answered([1, 0, 1, 0])]))
                outcomes = monitoring_pb2.RecordOutcomesRequest(
                    tenant="acme",
                    outcomes=[
                        monitoring_pb2.Outcome(request_id=f"r{i}", name="late", label=True)
                        for i in range(1, 4)
                    ],
                )
                await call(harness, "RecordOutcomes", outcomes)
                await call(harness, "RecordOutcomes", outcomes)
                value = harness.runtime.telemetry.registry.get_sample_value
                assert value("headrace_outcomes_repeated_total") == 3
                assert value("headrace_outcomes_contradictions_total") == 0
                continue
            reply = await call(harness, "ReadAccuracy", accuracy_pb2.ReadAccuracyRequest(pipeline="flights"))
    [found] = reply.versions
    assert (found.version, found.prediction_count, found.label_count, found.wrong_count) == (VERSION, 4, 3, 1)
    assert found.accuracy == pytest.approx(2 / 3)
    assert not found.HasField("expected_accuracy")
    assert found.delay_p50.ToMilliseconds() == 1000
    assert reply.coverage_wanted == 0.5


async def test_storage_that_fails_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    async with served(SERVICE, {"database": str(tmp_path / "o")}) as harness:
        with pytest.raises(Exception, match="can't be read now") as refused:
            await call(harness, "ReadAccuracy", accuracy_pb2.ReadAccuracyRequest())
        assert refused.value.reason is Reason.REASON_STORAGE_UNAVAILABLE  # type: ignore[attr-defined]  # a Fault
