"""Each guard by what it finds and what it says, and how one is added."""

import sys
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.analysis import Count
from headrace.pipeline import guards as rules
from headrace.pipeline.guards import GUARDS, Defaults, Margins
from headrace.releases import Guard as GuardRule
from headrace.releases import OneOf, Release, Rollout, Rule
from headrace.releases.document import LIVE
from services.monitoring.guards.answers import Answers, Plan, plan_of
from services.monitoring.guards.guard import Facts, Finding, Guard, Objectives, Verdict
from services.monitoring.guards.registry import guards_of
from tests.services.monitoring.rollout_answers import SEGMENTS, TENANTS, good_answers
from tests.services.monitoring.rollout_simulation import CANARY, release_of

EDGES = (0.1, 0.2)
TIMES = {"@latency_us": np.arange(500), "@busy_us": np.arange(500)}
PLAN = plan_of({("y", 0): list(range(500))}, TIMES, Counter(TENANTS), SEGMENTS, ["picture"])


def made(name: str, release: Release | None = None, **rule: Any) -> Guard:
    """As the only guard that a document names."""
    guard = guards(release or release_of(Rollout(arm=CANARY, since=8, guards={name: GuardRule(**rule)})))[
        name
    ]
    guard.begin_step()
    return guard


def guards(release: Release) -> dict[str, Guard]:
    assert release.rollout is not None
    return guards_of(release, release.rollout, Objectives(), EDGES)


def seen(
    bins: int | None = None, part: int = 0, units: int = 300, plan: Plan | None = PLAN, **more: Any
) -> Answers:
    """Units of one part that fall evenly into all bins, or into the first so many."""
    answers = Answers(plan, units, ranged=True)
    answers.values[part, 0, : bins or 10] = units // (bins or 10)
    answers.failed[part] = units, 0
    for name, values in more.items():
        getattr(answers, name)[...] = values
    return answers


def test_every_guard_that_a_document_may_name_has_a_file_and_says_something_of_nothing() -> None:
    for name in GUARDS:
        found = made(name).finding()
        assert found.name == name
        assert found.verdict in (Verdict.NOT_KNOWN, Verdict.NOT_ENOUGH_DATA)
        assert found.sentence


def test_a_guard_is_added_by_a_file_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dummy(Guard):
        def finding(self) -> Finding:
            return Finding(self.setting.name, Verdict.NOTHING_FOUND, self.setting.action, "looked")

    file = ModuleType("services.monitoring.guards.kinds.dummy")
    file.make = Dummy  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setattr(rules, "GUARDS", {**GUARDS, "dummy": Defaults("tell", Margins(0, 1, 0.1))})
    monkeypatch.setattr("services.monitoring.guards.registry.GUARDS", rules.GUARDS)
    assert guards(release_of(Rollout(arm=CANARY)))["dummy"].finding().says == "looked"


def test_half_of_alpha_is_for_the_whole_and_half_for_its_parts() -> None:
    alphas = {name: guard.setting.alpha for name, guard in guards(release_of(Rollout(arm=CANARY))).items()}
    parts = [alphas.pop(name) for name in ("drift", "segments", "tenants")]
    assert sum(alphas.values()) == pytest.approx(0.005)
    assert sum(parts) == pytest.approx(0.005)


@pytest.mark.parametrize(("kind", "name"), [(0, "non_finite"), (1, "null"), (2, "out_of_range")])
def test_bad_answers_are_harm_and_good_ones_a_proof(kind: int, name: str) -> None:
    guard = made(name)
    good = good_answers(8).answers
    guard.answered(0.05, good[8, LIVE], seen(bad=good[8, CANARY].bad))
    assert guard.finding().verdict == Verdict.PROVEN_FINE
    bad = np.zeros((3, 2), np.int64)
    bad[kind] = 300, 30
    guard.answered(0.05, seen(bad=[[5000, 0]] * 3), seen(bad=bad))
    found = guard.finding()
    assert (found.verdict, found.action, found.canary) == (Verdict.HARM, "go_back", Count(5300, 30))


def test_without_a_range_nothing_is_known_of_it_and_nothing_waits_for_it() -> None:
    guard = made("out_of_range")
    guard.answered(0.05, *good_answers(8).answers.values())
    found = guard.finding()
    assert (found.verdict, found.required) == (Verdict.NOT_KNOWN, False)
    assert "no range" in found.unknown


def test_answers_that_shift_are_found_by_how_much_they_do() -> None:
    guard, same = made("shift"), made("shift")
    for _ in range(20):
        guard.answered(0.5, seen(), seen(5))
        same.answered(0.5, seen(), seen())
    found = guard.finding()
    assert (found.verdict, found.action) == (Verdict.HARM, "pause")
    assert "answers changed by a PSI of" in found.says
    assert "picture is not in events" in found.unknown
    assert "a tenth that becomes three would show in" in same.finding().says
    assert (same.finding().verdict, "PSI of 0.000" in same.finding().says) == (Verdict.NOTHING_FOUND, True)


def test_where_rules_choose_arms_a_shift_is_only_said() -> None:
    release = release_of(Rollout(arm=CANARY))
    sent = Rule(name="r", when={"@tenant": OneOf(any=("acme",))}, arm=CANARY)
    guard = made("shift", release.model_copy(update={"rules": (sent,)}))
    guard.answered(0.5, seen(units=9000), seen(5, units=9000))
    assert (guard.finding().verdict, guard.finding().action) == (Verdict.HARM, "tell")


@pytest.mark.parametrize(
    ("name", "part", "text"), [("segments", 4, "kind=3"), ("tenants", 53, "tenant tenant-2")]
)
@pytest.mark.parametrize("what", ["answers", "failed", "slow"])
def test_a_part_that_differs_is_named_and_by_what(name: str, part: int, text: str, what: str) -> None:
    guard = made(name)
    for _ in range(20):
        live, canary = seen(part=part), seen(5 if what == "answers" else None, part=part)
        if what != "answers":
            getattr(live, what)[part], getattr(canary, what)[part] = (300, 3), (300, 60)
        guard.answered(0.5, live, canary)
    assert guard.finding().says.startswith(f"{text} ({what}) of 10 differ")


def test_what_a_row_costs_is_compared_while_the_arms_are_about_as_large() -> None:
    guard = made("cost")
    dear = seen(costly=[300, 200]), seen(costly=[300, 15])
    guard.answered(0.05, *reversed(dear))
    assert guard.finding().verdict == Verdict.NOT_KNOWN
    guard.answered(0.5, *reversed(dear))
    assert (guard.finding().verdict, guard.finding().action) == (Verdict.HARM, "pause")


def test_drift_of_both_arms_is_not_the_versions() -> None:
    guard = made("drift")
    drifted = {"x/nulls": "x: nulls 9 %", "y/distribution": "y: PSI 0.4"}
    for live, verdict, action in (
        ({"x/nulls": "x"}, Verdict.HARM, "pause"),
        (drifted, Verdict.NOTHING_FOUND, "pause"),
        (None, Verdict.HARM, "tell"),
    ):
        guard.learn(Facts(drifted={CANARY: drifted} if live is None else {LIVE: live, CANARY: drifted}))
        assert (guard.finding().verdict, guard.finding().action) == (verdict, action)


def test_a_model_that_is_surer_than_right_is_found_unless_the_live_one_is_too() -> None:
    guard = made("calibration")
    for live, verdict in (((900, 800, 805.0), Verdict.HARM), ((900, 550, 805.0), Verdict.NOTHING_FOUND)):
        guard.learn(Facts(expected={LIVE: live, CANARY: (300, 180, 270.0)}))
        assert guard.finding().verdict == verdict
    assert "right in 60.0% of 300, expected 90.0%" in guard.finding().says


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_evidence_against_a_calibrated_model_shrinks_on_average(seed: int, right: float) -> None:
    """Looked at after each of 200 predictions: over a thousand models it is nowhere above 1 by more than chance."""
    rng, guard = np.random.default_rng(seed), made("calibration")
    for rows in (20, 200):
        found = []
        for n in rng.binomial(rows, right, 300).tolist():
            guard.learn(Facts(expected={CANARY: (rows, n, rows * right)}))
            found.append(guard.finding().harm_e)
        assert np.mean(found) < 1
