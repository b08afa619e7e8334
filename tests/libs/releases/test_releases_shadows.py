"""A shadow as people start and stop it."""

from __future__ import annotations

import pytest

from headrace.releases import Release, ReleaseError
from headrace.releases.changes import shadow_started, shadow_stopped
from tests.libs.releases.small_pipeline import Home


@pytest.fixture
def live(home: Home) -> Home:
    """Release 1: light 1 is live."""
    home.deploy(models={"light": "1"})
    return home


def start(home: Home, version: str = "2", name: str = "shadow", share: float = 1.0) -> Release:
    arm = home.arm(name=name, models={"light": version})
    return home.commit(shadow_started(home.basis(), arm, name, share))


def test_a_shadow_is_started_replaced_and_stopped(live: Home) -> None:
    before = live.basis().current
    made = start(live, share=0.2)
    assert (made.shadow.arm, made.shadow.share) == ("shadow", 0.2)
    assert made.arms["shadow"].models["light"] == "2"
    assert (made.live, made.assign) == (before.live, before.assign)
    assert made.reason == f"run version {made.live.version} as a shadow of 20%"
    other = start(live, version="1", name="other")
    assert (other.shadow.arm, sorted(other.arms)) == ("other", ["live", "other"])
    stopped = live.commit(shadow_stopped(live.basis()))
    assert (stopped.shadow, list(stopped.arms)) == (None, ["live"])
    with pytest.raises(ReleaseError, match="there is none; start one"):
        shadow_stopped(live.basis())


def test_an_arm_that_answers_is_not_replaced_and_stays(live: Home) -> None:
    with pytest.raises(ReleaseError, match=r"shadow\.arm: 'live' answers"):
        start(live, name="live")
    current = live.basis().current
    arm = live.arm(name="canary", models={"light": "2"})
    weights = {"weights": {"live": 0.9, "canary": 0.1}, "by": None, "salt": "s"}
    live.commit(live.basis().next(arms={**current.arms, "canary": arm}, assign=weights))
    with pytest.raises(ReleaseError, match=r"arms\.canary: a weight names it"):
        start(live, version="1", name="canary")
    assert start(live, version="2", name="canary").shadow.arm == "canary"
    assert sorted(live.commit(shadow_stopped(live.basis())).arms) == ["canary", "live"]
