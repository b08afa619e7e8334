"""Any sequence of commits, documents and freezes, compared with a model of what a store does."""

import secrets
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from headrace.pipeline import content_hash
from headrace.releases import Freeze, Release, ReleaseError, StaleError
from headrace.releases.store import KEPT
from tests.libs.releases import release_stores
from tests.libs.releases.release_stores import Place, release
from tests.redis_server import RedisServer

PIPELINES = st.sampled_from(["flights", "a.b-c_d"])
TEXTS = {str(content_hash(text)): text for text in ("pipeline: a\n", "pipeline: b\n")}
REVISIONS = st.sampled_from(sorted(TEXTS))


class StoreMachine(RuleBasedStateMachine):
    """Two stores at one place must always show what the model holds."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.stores = [place.open(), place.open()]
        self.releases: dict[str, list[Release]] = {}
        self.documents: set[tuple[str, str]] = set()
        self.frozen: Freeze | None = None
        self.state = self.stores[0].wait("", 0)

    @rule(pipeline=PIPELINES, revision=REVISIONS, who=st.integers(0, 1))
    def keep(self, pipeline: str, revision: str, who: int) -> None:
        self.stores[who].keep_document(pipeline, revision, TEXTS[revision])
        self.documents.add((pipeline, revision))

    @rule(
        pipeline=PIPELINES, revision=REVISIONS, who=st.integers(0, 1), off=st.sampled_from([0, 0, 0, -1, 1])
    )
    def commit(self, pipeline: str, revision: str, who: int, off: int) -> None:
        known = self.releases.setdefault(pipeline, [])
        number = len(known) + 1 + off
        if number < 1:
            return
        arms = {"live": {"version": 1, "revision": revision, "models": {"m": "1"}}}
        said = {"reason": "größer\n„ja“", "labels": {"champion": {"m": "1"}}}
        made = release(number, pipeline, author=f"s{who}", arms=arms, **said)
        if off:
            with pytest.raises(StaleError) as stale:
                self.stores[who].commit(made)
            assert stale.value.number == len(known)
        elif (pipeline, revision) not in self.documents:
            with pytest.raises(ReleaseError, match=r"arms\.live\.revision"):
                self.stores[who].commit(made)
        else:
            self.stores[who].commit(made)
            known.append(made)
            self.changed()

    @rule(reason=st.one_of(st.none(), st.text(max_size=20)), who=st.integers(0, 1))
    def freeze(self, reason: str | None, who: int) -> None:
        self.frozen = None if reason is None else Freeze("me", reason, datetime.now(UTC))
        was = self.stores[who].frozen()
        self.stores[who].freeze(self.frozen)
        if was != self.frozen:
            self.changed()

    def changed(self) -> None:
        state = self.stores[0].wait(self.state, 0)
        assert state != self.state
        self.state = state

    @invariant()
    def shows_the_model(self) -> None:
        for store in self.stores:
            assert store.pipelines() == sorted(name for name, known in self.releases.items() if known)
            assert store.frozen() == self.frozen
            for name, known in self.releases.items():
                assert store.history(name) == known[::-1][:KEPT]
                assert store.current(name) == (known[-1] if known else None, None)
            for name, revision in self.documents:
                assert store.document(name, revision) == TEXTS[revision]

    def teardown(self) -> None:
        self.place.close()


def in_new_files() -> StoreMachine:
    folder = Path(tempfile.mkdtemp())
    machine = StoreMachine(release_stores.files(folder / "releases"))
    machine.place.close = lambda: shutil.rmtree(folder)  # type: ignore[method-assign]  # files have nothing to close
    return machine


def in_new_records() -> StoreMachine:
    return StoreMachine(release_stores.OwnPlace(Path(tempfile.mkdtemp()) / "control.sqlite"))


@pytest.mark.parametrize("kind", ["files", "redis", "records"])
def test_a_store_does_what_the_model_does(kind: str, shared_redis: RedisServer) -> None:
    def in_new_redis() -> StoreMachine:
        return StoreMachine(release_stores.in_redis(shared_redis.port, secrets.token_hex(4)))

    make = {"files": in_new_files, "redis": in_new_redis, "records": in_new_records}[kind]
    few = settings(max_examples=20, stateful_step_count=25)
    run_state_machine_as_test(make, settings=few)  # type: ignore[arg-type]  # it takes any factory
