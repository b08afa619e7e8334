"""Rollouts, experiments, rollbacks and shadows as people steer them."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from headrace.releases import Freeze, FrozenError, Release, ReleaseError, RolloutState, StaleError
from headrace.releases.changes import (
    HoldbackContext,
    KnownModels,
    aborted,
    deployed,
    differences,
    experiment_started,
    experiment_stopped,
    labelled,
    paused,
    promoted,
    resumed,
    rolled_back_by,
    rolled_back_to,
    rollout_started,
    shadow_started,
    shadow_stopped,
    switched,
    with_holdback,
)
from headrace.releases.changes.rollouts import Plan
from tests.libs.releases.small_pipeline import KNOWN, TEXT, Home, changed

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def live(home: Home) -> Home:
    """Release 1: light 1 is live."""
    home.deploy(models={"light": "1"})
    return home


def start(home: Home, plan: Plan | None = None, version: str = "2") -> Release:
    arm = home.arm(name="candidate", models={"light": version})
    return home.commit(rollout_started(home.basis(), arm, plan or Plan(), NOW, home.store.frozen()))


def tried(*changes: Callable[[], Release]) -> tuple[Callable[[], Release], ...]:
    return changes


def test_a_rollout_begins_with_the_first_weight(live: Home) -> None:
    live.deploy(models={"light": "2"})
    made = start(live, Plan(by="name", rules={"ladder": [0.1, 1.0], "otherwise": "promote"}), "10")
    assert made.assign.weights == {"live": 0.9, "candidate": 0.1}
    assert (made.assign.by, made.assign.salt) == ("name", "small-3")
    rollout = made.rollout
    assert (rollout.arm, rollout.step, rollout.state) == ("candidate", 0, RolloutState.RUNNING)
    assert (rollout.started, rollout.otherwise) == (NOW, "promote")
    assert made.live.models["light"] == "2"
    assert made.arms["candidate"].models["light"] == "10"
    held = live.commit(paused(live.basis()))
    assert (held.rollout.state, held.assign) == (RolloutState.PAUSED, made.assign)
    with pytest.raises(ReleaseError, match="paused already"):
        paused(live.basis())
    assert live.commit(resumed(live.basis(), None)).rollout == rollout
    with pytest.raises(ReleaseError, match="running already"):
        resumed(live.basis(), None)
    gone = live.commit(rolled_back_to(live.basis(), live.store.history("small")))
    assert (gone.live, gone.rollout.state) == (made.live, RolloutState.ABORTED)


def test_guards_are_those_of_the_arms_document_and_of_the_rollout(live: Home) -> None:
    text = changed(("deadline_ms: 250", "deadline_ms: 250\nguards: {shift: tell, wrong: pause}"))
    arm = live.arm(text, "candidate")
    plan = Plan(rules={"guards": {"wrong": {"action": "go_back"}}}, declared=live.documents.guards(arm))
    guards = rollout_started(live.basis(), arm, plan, NOW, None).rollout.guards
    assert {name: guard.action for name, guard in guards.items()} == {"shift": "tell", "wrong": "go_back"}


def test_promoting_makes_the_arm_live(live: Home) -> None:
    began = start(live)
    rules = ({"name": "r", "when": {"name": {"any": ["x"]}}, "arm": "candidate"},)
    live.commit(live.basis().next(rules=rules))
    made = live.commit(promoted(live.basis("it is fine")))
    assert made.live == began.arms["candidate"]
    assert (made.assign.weights, made.rules[0].arm) == ({"live": 1.0, "previous": 0.0}, "live")
    # The old one stays loaded, until something else goes live.
    assert made.arms == {"live": began.arms["candidate"], "previous": began.live}
    assert (made.rollout.state, made.rollout.verdict) == (RolloutState.PROMOTED, "promoted by me")
    assert made.reason == "it is fine"
    # And the next may begin, with a salt of its own.
    assert start(live, version="10").assign.salt == "small-5"
    live.commit(aborted(live.basis()))
    assert list(live.deploy(changed(("outputs: [answer]", "outputs: [answer, middle]"))).arms) == ["live"]


def hold(
    home: Home, version: str, text: str = TEXT, known: KnownModels = KNOWN, why_none: str = ""
) -> Release:
    """A deployment of this version of `light`, with a holdback if that can be; else `why_none` is in the reason."""
    context = HoldbackContext(home.documents, known, NOW, home.store.frozen())
    made, why = with_holdback(home.basis(), home.arm(text, models={"light": version}), "live", context)
    assert (why_none in why, bool(why)) == (True, bool(why_none)), why
    return home.commit(made)


def test_a_deployment_leaves_some_rows_with_what_was_live(live: Home) -> None:
    def divided(made: Release) -> list[str]:
        assert made.assign.weights == pytest.approx({"live": 0.05, "candidate": 0.95})
        assert made.rollout.is_holdback
        return [made.arms[arm].models["light"] for arm in ("live", "candidate")]

    made = hold(live, "2")
    assert (divided(made), made.reason) == (["1", "2"], "deploy version 1")
    with pytest.raises(StaleError):  # the same again is the release that there is
        hold(live, "2")
    # What has nearly all rows is what the next one is compared with.
    assert divided(hold(live, "10")) == ["2", "10"]
    live.commit(paused(live.basis()))
    with pytest.raises(ReleaseError, match="end it before a deployment"):
        hold(live, "1")
    gone = back(live)
    assert (gone.live.models["light"], gone.assign.weights) == ("2", {"live": 1.0})
    hold(live, "1")
    for follow in tried(
        lambda: deployed(live.basis(), live.arm(models={"light": "1"})),
        lambda: rollout_started(live.basis(), live.arm(models={"light": "10"}), Plan(), NOW, None),
        lambda: experiment_started(live.basis(), "e", {"live": 0.5, "previous": 0.5}, "o", "name", NOW),
    ):
        assert follow().live.models["light"] == "1"


def named(home: Home) -> None:
    rule = {"name": "r", "when": {"name": {"any": ["x"]}}, "arm": "live"}
    home.commit(home.basis().next(rules=(rule,)))


@pytest.mark.parametrize(
    ("before", "text", "known", "why"),
    [
        (lambda home: home.store.freeze(Freeze("boss", "holidays", NOW)), TEXT, KNOWN, "frozen by boss"),
        (named, TEXT, KNOWN, "rules[0].arm: it names the arm 'live'"),
        (None, changed(("outputs: [answer]", "outputs: [answer, middle]")), KNOWN, "has an output 'middle'"),
        (None, TEXT, KnownModels({"light": ("2",), "heavy": ("7",)}), "arms.live.models.light"),
    ],
)
def test_nothing_is_left_with_what_cant_serve_beside(
    live: Home, before: Callable[[Home], None] | None, text: str, known: KnownModels, why: str
) -> None:
    if before is not None:
        before(live)
    made = hold(live, "2", text, known, why)
    assert (made.live.models["light"], made.rollout) == ("2", None)


def test_aborting_goes_back(live: Home) -> None:
    began = start(live)
    made = live.commit(aborted(live.basis()))
    assert made.live == began.live
    assert (list(made.arms), made.assign.weights) == (["live"], {"live": 1.0})
    assert made.rollout.state is RolloutState.ABORTED
    for steer in (aborted, promoted, paused):
        with pytest.raises(ReleaseError, match=r"rollout: none is running, the last one is over \(aborted\)"):
            steer(live.basis())


def test_there_is_one_rollout_at_a_time(live: Home) -> None:
    start(live)
    told = r"rollout: the one of arm 'candidate' is running \(step 1 of 5\); end it before"
    halves = {"live": 0.5, "candidate": 0.5}
    for change in tried(
        lambda: start(live, version="10"),
        lambda: live.deploy(models={"light": "10"}),
        lambda: live.deploy(name="candidate", models={"light": "10"}),
        lambda: experiment_started(live.basis(), "e", halves, "late", "name", NOW),
    ):
        with pytest.raises(ReleaseError, match=told):
            change()
    live.commit(paused(live.basis()))
    with pytest.raises(ReleaseError, match=r"is paused \(step 1 of 5\)"):
        start(live, version="10")
    # What does not touch it is allowed.
    live.commit(labelled(live.basis(), "best", "light", "2", KNOWN))
    live.deploy(name="next", models={"light": "10"})


@pytest.mark.parametrize(
    ("plan", "version", "told"),
    [
        (Plan(name="live"), "2", "rollout.arm: 'live' is what it takes over from"),
        (Plan(), "1", "arms.candidate: it is what the arm 'live' is already"),
        (Plan(rules={"ladder": [0.5, 0.1]}), "2", "rollout: ladder: the weights must rise and end with 1"),
        (Plan(rules={"ladder": [0.5, 2.0]}), "2", "rollout.ladder.1"),
        (Plan(rules={"guards": {"erors": {}}}), "2", "rollout.guards.erors"),
        (Plan(rules={"alpha": 0.9}), "2", "rollout.alpha"),
        (Plan(rules={"otherwise": "hope"}), "2", "rollout.otherwise"),
    ],
)
def test_a_rollout_that_makes_no_sense(live: Home, plan: Plan, version: str, told: str) -> None:
    with pytest.raises(ReleaseError) as error:
        start(live, plan, version)
    assert told in str(error.value)
    assert live.store.current("small")[0].number == 1


def test_a_freeze_stops_what_goes_on_by_itself(live: Home) -> None:
    live.store.freeze(Freeze("boss", "holidays", NOW))
    with pytest.raises(FrozenError, match=r"frozen by boss \(holidays\)"):
        start(live)
    live.store.freeze(None)
    live.commit(switched(live.basis("week-end"), frozen=True))
    assert switched(live.basis(), frozen=True) == live.basis().current
    with pytest.raises(FrozenError, match=r"frozen by me \(week-end\)"):
        start(live)
    # People may still act.
    assert live.deploy(name="next", models={"light": "10"}).frozen
    live.commit(switched(live.basis(), frozen=False))
    start(live)
    live.commit(paused(live.basis()))
    with pytest.raises(FrozenError):
        resumed(live.basis(), Freeze("boss", "holidays", NOW))
    # A person may always go back.
    live.store.freeze(Freeze("boss", "holidays", NOW))
    assert live.commit(rolled_back_to(live.basis(), live.store.history("small"))).live.models["light"] == "1"


def test_back_to_the_last_other_live_arm(live: Home) -> None:
    live.deploy(models={"light": "2"})
    live.commit(labelled(live.basis(), "best", "light", "2", KNOWN))
    made = live.commit(rolled_back_to(live.basis(), live.store.history("small")))
    assert (made.number, made.parent, made.restores) == (4, 3, 1)
    assert made.live.models["light"] == "1"
    assert made.reason == "roll back to release 1"
    # Labels are not what serves.
    assert made.labels == {"best": {"light": "2"}}
    # The bad one does not come back: there is nothing before release 1.
    with pytest.raises(ReleaseError, match=r"rolled back: 3, 2.*--to"):
        back(live)
    assert live.deploy(models={"light": "10"}).restores == 0


def back(home: Home, number: int | None = None) -> Release:
    return home.commit(rolled_back_to(home.basis(), home.store.history("small"), number))


def test_going_back_again_walks_on_from_what_was_restored(live: Home) -> None:
    live.deploy(models={"light": "2"})
    live.deploy(models={"light": "10"})
    for number, version in ((2, "2"), (1, "1")):
        assert ((made := back(live)).live.models["light"], made.restores) == (version, number)
    history = live.store.history("small")
    # Release 4 served the same as 2, and both were left by release 5.
    assert rolled_back_by(history) == {4: 5, 3: 4, 2: 5}
    # Who names one may have it again, and it is no bad one any more.
    assert back(live, 3).live.models["light"] == "10"
    assert rolled_back_by(live.store.history("small"))[3] == 4


def test_what_a_rollout_was_judged_harmful_for_is_no_way_back(live: Home) -> None:
    live.deploy(models={"light": "2"})
    live.deploy(models={"light": "10"})
    began = start(live, version="2")
    judged = began.rollout.model_copy(update={"state": RolloutState.ROLLED_BACK})
    live.commit(live.basis().next("harm by errors", rollout=judged))
    assert rolled_back_by(live.store.history("small")) == {2: 5}
    assert back(live).restores == 1


def test_from_a_release_that_cant_be_read_the_way_goes_to_the_newest_that_can(live: Home) -> None:
    live.deploy(models={"light": "2"})
    live.deploy(models={"light": "10"})
    live.spoil(3)
    assert not live.deploy(models={"light": "2"}).restores
    live.spoil(4)
    made = back(live)
    assert (made.restores, made.live.models["light"]) == (2, "2")
    [found] = differences(live.store.history("small")[1], made)
    assert str(found) == "(release): 4 can't be read → —"


def test_back_after_a_promotion_and_to_a_named_release(live: Home) -> None:
    start(live)
    live.commit(promoted(live.basis()))
    history = live.store.history("small")
    assert rolled_back_to(live.basis(), history).live.models["light"] == "1"
    # Release 2 had a rollout: it does not begin anew.
    made = live.commit(rolled_back_to(live.basis(), history, 2))
    assert (made.live.models["light"], list(made.arms), made.rollout) == ("1", ["live"], None)
    assert made.assign.weights == {"live": 1.0}


def test_there_is_nothing_to_go_back_to(live: Home) -> None:
    for number, told in ((9, "no release 9"), (1, "no release 1"), (None, "no kept release")):
        with pytest.raises(ReleaseError, match=rf"number: (there is )?{told}.*kept: none"):
            rolled_back_to(live.basis(), live.store.history("small"), number)


def test_an_experiment_has_phases(live: Home) -> None:
    live.deploy(name="b", models={"light": "2"})

    def begin(share: float, name: str = "seats", by: str = "name") -> Release:
        return experiment_started(live.basis(), name, {"live": 1 - share, "b": share}, "late", by, NOW)

    first = live.commit(begin(0.5))
    assert (first.experiment.arms, first.experiment.phase, first.assign.by) == (("live", "b"), 1, "name")
    second = live.commit(begin(0.25))
    assert (second.experiment.phase, second.assign.weights["b"]) == (2, 0.25)
    # Nobody changes sides but those whose share moved.
    assert second.assign.salt == first.assign.salt == "small-seats-3"
    told = r"experiment: 'seats' is running; end it before"
    others = tried(lambda: begin(0.5, "other"), lambda: live.deploy(models={"light": "10"}))
    for change in tried(*others, lambda: start(live)):
        with pytest.raises(ReleaseError, match=told):
            change()
    over = live.commit(experiment_stopped(live.basis()))
    assert (over.experiment, over.assign.weights, set(over.arms)) == (None, {"live": 1.0}, {"live", "b"})
    for weights, problem in (({"live": 1.5, "b": -0.5}, "weights.live"), ({"live": 1.0}, "experiment.arms")):
        with pytest.raises(ReleaseError, match=problem):
            experiment_started(live.basis(), "seats", weights, "late", "name", NOW)
    with pytest.raises(ReleaseError, match="experiment: none is running"):
        experiment_stopped(live.basis())
    with pytest.raises(ReleaseError, match=r"assign\.by: an experiment assigns by the values of a column"):
        begin(0.5, by="")
    # Its arm can be rolled out, while no other one has rows.
    live.commit(live.basis().next(assign={"weights": {"live": 0.5, "b": 0.5}}))
    with pytest.raises(ReleaseError, match=r"assign\.weights: the arm 'b' has rows already"):
        start(live, version="10")
    live.commit(live.basis().next(assign={"weights": {"live": 1.0}}))
    assert start(live, Plan(name="b")).assign.weights == {"live": 0.99, "b": 0.01}


def start_shadow(home: Home, version: str = "2", name: str = "shadow", share: float = 1.0) -> Release:
    arm = home.arm(name=name, models={"light": version})
    return home.commit(shadow_started(home.basis(), arm, name, share))


def test_a_shadow_is_started_replaced_and_stopped(live: Home) -> None:
    before = live.basis().current
    made = start_shadow(live, share=0.2)
    assert (made.shadow.arm, made.shadow.share) == ("shadow", 0.2)
    assert made.arms["shadow"].models["light"] == "2"
    assert (made.live, made.assign) == (before.live, before.assign)
    assert made.reason == f"run version {made.live.version} as a shadow of 20%"
    other = start_shadow(live, version="1", name="other")
    assert (other.shadow.arm, sorted(other.arms)) == ("other", ["live", "other"])
    stopped = live.commit(shadow_stopped(live.basis()))
    assert (stopped.shadow, list(stopped.arms)) == (None, ["live"])
    with pytest.raises(ReleaseError, match="there is none; start one"):
        shadow_stopped(live.basis())


def test_an_arm_that_answers_is_not_replaced_and_stays(live: Home) -> None:
    with pytest.raises(ReleaseError, match=r"shadow\.arm: 'live' answers"):
        start_shadow(live, name="live")
    current = live.basis().current
    arm = live.arm(name="canary", models={"light": "2"})
    weights = {"weights": {"live": 0.9, "canary": 0.1}, "by": None, "salt": "s"}
    live.commit(live.basis().next(arms={**current.arms, "canary": arm}, assign=weights))
    with pytest.raises(ReleaseError, match=r"arms\.canary: a weight names it"):
        start_shadow(live, version="1", name="canary")
    assert start_shadow(live, version="2", name="canary").shadow.arm == "canary"
    assert sorted(live.commit(shadow_stopped(live.basis())).arms) == ["canary", "live"]
