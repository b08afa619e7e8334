"""How often rollouts decide wrongly, and how long they take, at 300 rows a second with load that swings by half.

Each run is a whole rollout: a simulated router, real evidence, real decisions, an injected clock. 1,000 seeded runs are slow; a
few of them always run.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.releases import Guard, Rollout
from headrace.releases.changes.rollouts import holdback_plan
from headrace.releases.ladder import Action
from tests.services.monitoring.rollout_answers import Outputs
from tests.services.monitoring.rollout_simulation import CANARY, Ran, Traffic, run

# A promotion of a canary like the live arm takes five stages of 30 s and little more; this is the time that is promised.
PROMISED_S = 240
STICKY = Traffic(keys=2000, failing=20)
SAME = {
    "same": Traffic(),
    "nothing fails": Traffic(errors=0, canary_errors=0),
    "sticky, 20 clients always fail": STICKY,
    "the machine is busy for 20 s of each minute": Traffic(busy=(20, 40, 4.0)),
    "the machine gets busy as the rollout begins": Traffic(busy=(1, 60, 4.0)),
    "heavy tails": Traffic(outputs=Outputs(heavy=True)),
    "seasonal": Traffic(outputs=Outputs(season=2.0)),
    "sticky and seasonal, keys with levels of their own": replace(STICKY, outputs=Outputs(season=1.0)),
}
# Twice the allowed excess of 0.5 %, and more than thrice the live arm's rate: worse than allowed by both margins.
WORSE = {
    "worse": Traffic(canary_errors=0.011),
    "worse, nothing fails live": Traffic(errors=0, canary_errors=0.01),
    "worse, sticky": Traffic(canary_errors=0.011, keys=2000, failing=20),
    "worse, on a busy machine": Traffic(canary_errors=0.011, busy=(1, 30, 4.0)),
    # A fifth of the rows is slow in place of a twentieth.
    "worse, slow": Traffic(canary_extra_s=0.015),
}
# Fault → seconds from the first bad row to the decision. To weight 0 it takes about 1.5 s more (tick, commit, watch).
FAULTS = {
    "half of the rows fail": (Traffic(canary_errors=0.5), 2.5),
    "5 % of the rows fail": (Traffic(canary_errors=0.05), 10.5),
    "5 % of the rows fail, sticky": (Traffic(canary_errors=0.05, keys=2000, failing=20), 10.5),
    "each row takes 200 ms more": (Traffic(canary_extra_s=0.2), 4.5),
    "each row takes 200 ms more, and the machine gets busy": (
        Traffic(canary_extra_s=0.2, busy=(1, 60, 4.0)),
        4.5,
    ),
    "outcomes say that labels are flipped": (Traffic(wrong=0.3, canary_wrong=0.7), 10.5),
    "half is NaN": (Traffic(outputs=Outputs(nan=0.5)), 3),
    "half is out of range": (Traffic(outputs=Outputs(far=0.5)), 3),
    "1 % is NaN": (Traffic(outputs=Outputs(nan=0.01)), 60),
    "5 % is null": (Traffic(outputs=Outputs(null=0.05)), 10.5),
}
# It is only compared while the arms are about as large.
DEAR = Traffic(outputs=Outputs(dear=2.0))
# The same for what pauses the rollout.
DOUBTS = {
    "scores shifted by a standard deviation": (Traffic(outputs=Outputs(shift=1.0)), 15),
    "scores shifted by half of one": (Traffic(outputs=Outputs(shift=0.5)), 80),
    "heavy tails, shifted": (Traffic(outputs=Outputs(heavy=True, shift=3.0)), 60),
    "labels flipped, and no outcomes": (Traffic(outputs=Outputs(flipped=True)), 25),
    "one segment of 10 % flipped": (Traffic(outputs=Outputs(flipped=True, only=(3,))), 80),
    "200 ms more for one tenant": (Traffic(outputs=Outputs(slow_s=0.2)), 18),
    "a row costs twice as much": (DEAR, 80),
}


HELD = holdback_plan({}).rules


def ended(traffic: Traffic, seeds: range) -> tuple[Counter[Action], list[Ran]]:
    runs = [run(traffic, seed) for seed in seeds]
    return Counter(ran.end for ran in runs), runs


def seconds_to(action: Action, traffic: Traffic, seeds: range, rules: dict[str, Any]) -> list[int]:
    rollout = Rollout(arm=CANARY, guards={"wrong": Guard()} if traffic.wrong else {}, **rules)
    runs = [run(traffic, seed, rollout) for seed in seeds]
    ends = Counter(ran.end for ran in runs)
    assert ends[action] >= 0.99 * len(runs), ends
    return [ran.seconds for ran in runs]


def runs_of(few: int) -> pytest.MarkDecorator:
    """So many always; a thousand are slow."""
    thousand = pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
    return pytest.mark.parametrize("count", [few, thousand])


@runs_of(2)
@pytest.mark.parametrize("traffic", SAME.values(), ids=SAME.keys())
def test_a_canary_like_the_live_arm_is_promoted(traffic: Traffic, count: int) -> None:
    ends, runs = ended(traffic, range(count))
    print(dict(ends), np.quantile([ran.seconds for ran in runs], [0.5, 0.95, 1]))
    # Of a few: none, and all.
    assert ends[Action.ROLL_BACK] <= 0.01 * count
    assert ends[Action.PAUSE] <= 0.02 * count
    in_time = sum(ran.end == Action.PROMOTE and ran.seconds <= PROMISED_S for ran in runs)
    assert in_time >= 0.95 * count
    assert [weight for _, _, weight in runs[0].history] == [0.05, 0.25, 0.5, 1.0, 1.0]


@runs_of(1)
def test_requests_of_ten_rows_are_no_ten_cases(count: int) -> None:
    """Counted by row, each slow or failed request would be ten bad rows, and soon harm. It takes longer, and errs no more."""
    ends, runs = ended(Traffic(rows_per_request=10), range(1, 1 + count))
    assert ends[Action.ROLL_BACK] <= 0.015 * count
    assert ends[Action.PROMOTE] >= 0.95 * count
    assert sum(runs[0].decision.guards[0].live) < 30_000


@runs_of(2)
@pytest.mark.parametrize("traffic", WORSE.values(), ids=WORSE.keys())
def test_a_canary_that_is_worse_than_allowed_is_not(traffic: Traffic, count: int) -> None:
    ends, _ = ended(traffic, range(count))
    print(dict(ends))
    assert ends[Action.PROMOTE] <= 0.05 * count
    assert count == 1000 or ends == {Action.ROLL_BACK: count}


CANARY_5 = {"ladder": (0.05, 0.5, 1.0)}
SOON = [
    *((name, Action.ROLL_BACK, CANARY_5, *of) for name, of in FAULTS.items()),
    *((name, Action.PAUSE, CANARY_5, *of) for name, of in DOUBTS.items()),
    # Of a deployment 5 % are left to compare with.
    *((f"holdback: {n}", Action.ROLL_BACK, HELD, of, most + 6) for n, (of, most) in FAULTS.items()),
    *(
        (f"holdback: {n}", Action.PAUSE, HELD, of, 4 * most)
        for n, (of, most) in DOUBTS.items()
        if of is not DEAR
    ),
]


@runs_of(3)
@pytest.mark.parametrize(
    ("action", "rules", "traffic", "most_s"), [pytest.param(*of, id=name) for name, *of in SOON]
)
def test_a_broken_canary_is_found_soon(
    action: Action, rules: dict[str, Any], traffic: Traffic, most_s: float, count: int
) -> None:
    seconds = seconds_to(action, traffic, range(count), rules)
    print(np.quantile(seconds, [0.5, 0.95, 1]))
    assert np.median(seconds) <= most_s
