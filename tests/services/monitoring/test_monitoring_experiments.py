"""The read-out of an experiment over the store of exposures and outcomes."""

from headrace.releases import Experiment, Release, Rollout
from headrace.releases.document import LIVE
from services.monitoring.experiments import experiment_read_out, phase_began
from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, exposure
from tests.services.monitoring.rollout_simulation import CANARY, release_of


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


def test_of_an_earlier_phase_nothing_is_mixed_in(store: OutcomeStore) -> None:
    store.expose([exposure("old", arm=CANARY, key=0, release=1), exposure("r0", key=0, release=3)], NOW)
    crossed = [experiment_read_out(history(*phases), store) for phases in ((1, 1, 1), (1, 1, 2))]
    assert [found.crossed for found in crossed if found] == [1, 0]
    assert experiment_read_out(history(None), store) is None
