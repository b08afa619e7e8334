"""Any sequence of changes: what is refused changes nothing, and what is accepted keeps what every reader relies on."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from headrace.pipeline import Pipeline
from headrace.releases import LIVE, Release, ReleaseError, RolloutState
from headrace.releases.catalog import released
from headrace.releases.changes import (
    aborted,
    applied,
    deployed,
    desired,
    experiment_started,
    experiment_stopped,
    labelled,
    paused,
    promoted,
    resumed,
    rolled_back_to,
    rollout_started,
    switched,
)
from headrace.releases.changes.basis import ACTIVE
from headrace.releases.changes.rollouts import Plan
from headrace.releases.document import Arm, from_bytes, to_bytes
from tests.libs.releases.small_pipeline import KNOWN, TEXT, Home, changed
from tests.released import releases_in

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
VERSIONS = st.sampled_from(["1", "2", "10"])
ARMS = st.sampled_from([LIVE, "candidate", "b"])
TEXTS = st.sampled_from([TEXT, changed(("version: 1\n", "version: 2\n"))])


class ChangesMachine(RuleBasedStateMachine):
    """Changes as people and automation make them, in a real database."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        self.home = Home(self._open.enter_context(releases_in(folder)), folder)
        self.home.deploy(models={"light": "1"})
        self.made = 1
        # What made the live arm another one; nothing else may.
        self.live: Arm = self.current.live

    @property
    def current(self) -> Release:
        return self.home.basis().current

    def attempt(self, make: Callable[[], Release | None], *, may_change_live: bool = False) -> None:
        before = self.current
        try:
            release = make()
            if release is None or release == before:
                return
            self.home.commit(release)
        except ReleaseError:
            unchanged = self.current == before
            assert unchanged
            return
        self.made += 1
        if may_change_live:
            self.live = self.current.live

    def arm(self, name: str, version: str, text: str = TEXT) -> Arm:
        found: Arm = self.home.arm(text, name, models={"light": version})
        return found

    @rule(name=ARMS, version=VERSIONS, text=TEXTS)
    def deploy(self, name: str, version: str, text: str) -> None:
        arm = self.arm(name, version, text)
        self.attempt(lambda: deployed(self.home.basis(), arm, name), may_change_live=name == LIVE)

    @rule(name=ARMS, version=VERSIONS, by=st.sampled_from([None, "name"]))
    def start(self, name: str, version: str, by: str | None) -> None:
        arm = self.arm(name, version)
        self.attempt(lambda: rollout_started(self.home.basis(), arm, Plan(name, by), NOW, None))

    @rule(how=st.sampled_from([paused, aborted]))
    def hold(self, how: Callable[..., Release]) -> None:
        self.attempt(lambda: how(self.home.basis()))

    @rule()
    def resume(self) -> None:
        self.attempt(lambda: resumed(self.home.basis(), None))

    @rule()
    def promote(self) -> None:
        self.attempt(lambda: promoted(self.home.basis()), may_change_live=True)

    @rule(number=st.one_of(st.none(), st.integers(1, 12)))
    def roll_back(self, number: int | None) -> None:
        history = self.home.store.history("small")
        self.attempt(lambda: rolled_back_to(self.home.basis(), history, number), may_change_live=True)

    @rule(label=st.sampled_from(["best", "10"]), version=st.one_of(st.none(), VERSIONS))
    def label(self, label: str, version: str | None) -> None:
        self.attempt(lambda: labelled(self.home.basis(), label, "light", version, KNOWN))

    @rule(frozen=st.booleans())
    def switch(self, frozen: bool) -> None:
        self.attempt(lambda: switched(self.home.basis(), frozen=frozen))

    @rule(share=st.sampled_from([0.1, 0.5]), name=st.sampled_from(["e", "f"]))
    def experiment(self, share: float, name: str) -> None:
        weights = {LIVE: 1 - share, "b": share}
        self.attempt(lambda: experiment_started(self.home.basis(), name, weights, "late", "name", NOW))

    @rule()
    def stop(self) -> None:
        self.attempt(lambda: experiment_stopped(self.home.basis()))

    @rule()
    def apply_what_is_live(self) -> None:
        """Never a change, unless a rollout runs, whose document says where it is to begin."""
        current = self.current

        def make() -> Release | None:
            return applied(self.home.basis(), desired(current), KNOWN, _no_document)

        if current.rollout is None or current.rollout.state not in ACTIVE:
            made = make()
            assert made is None or made.rollout is None
            assert made is None or made.arms == current.arms

    @invariant()
    def serves(self) -> None:
        release = self.current
        assert release.number == self.made
        assert from_bytes("small", to_bytes(release)) == release
        # Every arm can be served, and every arm with rows exists.
        assert set(released(release, self.home.documents.text).arms) == set(release.arms)
        assert set(release.assign.weights) <= set(release.arms)
        assert release.live == self.live

    @invariant()
    def only_a_rollout_or_an_experiment_gives_other_arms_rows(self) -> None:
        release = self.current
        elsewhere = {arm for arm, weight in release.assign.weights.items() if weight and arm != LIVE}
        active = release.rollout is not None and release.rollout.state in ACTIVE
        if active:
            assert elsewhere == {release.rollout.arm}
        elif release.experiment is None:
            assert not elsewhere
        assert not (active and release.experiment)
        if release.rollout and release.rollout.state is RolloutState.PROMOTED:
            assert release.rollout.step == len(release.rollout.ladder) - 1

    def teardown(self) -> None:
        self._open.close()


def _no_document(key: str, value: object) -> Pipeline:
    raise AssertionError(f"{key}: {value}")


def test_any_sequence_of_changes() -> None:
    few = settings(max_examples=10, stateful_step_count=20)
    run_state_machine_as_test(ChangesMachine, settings=few)
