"""The read-out of an experiment over the store of exposures and outcomes."""

import random

import pytest

from headrace.releases import Experiment, Release, Rollout
from headrace.releases.document import LIVE
from services.monitoring.experiments import experiment_read_out, phase_began
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, exposure, outcome, store_at
from tests.services.monitoring.rollout_simulation import CANARY, release_of

KEYS = 1200


def history(*phases: int | None) -> list[Release]:
    """Releases 1, 2, … of these phases, newest first."""
    base = release_of(Rollout(arm=CANARY)).model_copy(update={"pipeline": "flights", "rollout": None})
    weights = base.assign.model_copy(update={"weights": {LIVE: 0.5, CANARY: 0.5}})
    found = []
    for number, phase in enumerate(phases, 1):
        experiment = None
        if phase is not None:
            experiment = Experiment(name="e", arms=(LIVE, CANARY), outcome="revenue", phase=phase)
        found.append(base.model_copy(update={"number": number, "assign": weights, "experiment": experiment}))
    return found[::-1]


def test_a_phase_begins_with_its_first_release() -> None:
    assert phase_began([]) is None
    assert phase_began(history(1, None)) is None
    assert phase_began(history(None, 1, 1)) == 2
    assert phase_began(history(1, 1, 2, 2)) == 3
    assert phase_began(history(1)) == 1


@pytest.fixture
def store() -> OutcomeStore:
    """Each second key met the canary under release 3 and brings 3 in place of 2; four fifths have an outcome."""
    chance = random.Random(5)
    found = store_at(None)
    arms = [CANARY if key % 2 else LIVE for key in range(KEYS)]
    found.expose([exposure(f"r{k}", arm=arms[k], key=k, release=3) for k in range(KEYS)], NOW)
    found.expose([exposure("old", arm=CANARY, key=0, release=1)], NOW)
    values = [(k, (3.0 if k % 2 else 2.0) + chance.gauss(0, 0.3)) for k in range(KEYS) if k % 5]
    for begin in range(0, len(values), 100):
        found.record("acme", [outcome(f"r{k}", v, "revenue") for k, v in values[begin : begin + 100]], NOW)
    return found


def test_the_read_out_says_exposures_coverage_ratio_and_lift(store: OutcomeStore) -> None:
    found = experiment_read_out(history(1, 1, 2), store)
    assert found.sample_ratio == "as expected"
    assert [found.arms[arm].exposures for arm in (LIVE, CANARY)] == [KEYS // 2] * 2
    assert found.arms[LIVE].coverage == pytest.approx(0.8)
    assert 1.0 in found.lifts[CANARY].absolute
    assert 0.5 in found.lifts[CANARY].relative
    assert found.lifts[CANARY].significant
    assert found.crossed == 0


def test_of_an_earlier_phase_nothing_is_mixed_in(store: OutcomeStore) -> None:
    assert experiment_read_out(history(1, 1, 1), store).crossed == 1
    assert experiment_read_out(history(None), store) is None
