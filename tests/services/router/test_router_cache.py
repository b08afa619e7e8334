"""Kept answers: which rows get one, which never do, and what changes with a version."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from headrace.columns import RowError
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import ModelStage, Plan, cut, parse, plan
from services.router.cache.route import identity_of
from services.router.inference import PipelineResult
from tests.services.router.cache_world import DOCUMENT, Served, World, ages, loaded, values

STALE = DOCUMENT.replace("ttl: 10s", "ttl: 10s, stale_on_failure: 60s")
DOWN = Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "down")


async def test_an_input_that_no_cached_stage_reads_is_no_part_of_the_key() -> None:
    served = Served(World())
    await served.ask([1.0], keys=["k"])
    assert ages(await served.ask([1.0], keys=["other"])) == [0]


async def test_nothing_is_kept_while_nobody_knows_for_sure_which_version_answers() -> None:
    served = Served(World(), DOCUMENT.replace('    version: "7"\n', ""))
    await served.ask([1.0])
    assert ages(await served.ask([1.0])) == [-1]
    read = served.registry.get_sample_value
    assert read("headrace_router_cache_unpinned", {"pipeline": "scored"}) == 1


async def test_a_row_that_failed_before_is_not_computed() -> None:
    served = Served(World())
    early = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "x is wrong")
    assert (await served.ask([1.0, 2.0], errors={0: early})).batch.errors == {0: early}
    assert served.world.calls["times"] == 1


async def test_rows_that_wait_for_the_same_answer_share_it() -> None:
    served = Served(World())
    await served.ask([0.0])
    gate = served.world.gate = asyncio.Event()
    first = asyncio.create_task(served.ask([1.0]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(served.ask([1.0, 1.0, 2.0 + i])) for i in range(3)]
    await asyncio.sleep(0)
    gate.set()
    assert values(await first) == [1.0]
    assert [values(await other) for other in others] == [[1.0, 1.0, 2.0 + i] for i in range(3)]
    assert served.world.calls["times"] == 1 + 1 + 3
    assert served.counted("shared") == 6


@pytest.mark.parametrize("how", ["fault", "cancelled"])
async def test_a_row_runs_itself_when_the_one_that_it_waited_for_brings_nothing(how: str) -> None:
    served = Served(World())
    await served.ask([0.0])
    gate = served.world.gate = asyncio.Event()
    served.world.fault = DOWN if how == "fault" else None
    first = asyncio.create_task(served.ask([1.0]))
    await asyncio.sleep(0)
    served.world.fault = None
    second = asyncio.create_task(served.ask([1.0]))
    await asyncio.sleep(0)
    if how == "cancelled":
        first.cancel()
    gate.set()
    assert values(await second) == [1.0]
    assert (await asyncio.gather(first, return_exceptions=True))[0] is not None
    assert len(served.caches._found["scored"].flights) == 0


async def test_a_row_does_not_wait_beyond_its_deadline() -> None:
    served = Served(World())
    await served.ask([0.0])
    served.world.gate = asyncio.Event()
    first = asyncio.create_task(served.ask([1.0]))
    await asyncio.sleep(0)
    late = asyncio.create_task(served.ask([1.0], budget_s=0.02))
    # It no longer waits, so it tries itself.
    while served.world.calls["times"] < 3:
        await asyncio.sleep(0.005)
    served.world.gate.set()
    assert values(await late) == values(await first) == [1.0]


@pytest.mark.parametrize(
    "why", ["not allowed", "another error", "no time left", "another revision", "another model"]
)
async def test_an_old_answer_is_not_served(why: str) -> None:
    document = DOCUMENT if why == "not allowed" else STALE
    served = Served(World(), document)
    await served.ask([1.0])
    served.world.now += 50
    if why == "another revision":
        served.deploy(document, version=2)
    if why == "another model":
        loaded(served.world, 1.0, "b")
        await served.ask([9.0])
    wrong = Fault(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "wrong")
    served.world.fault = wrong if why == "another error" else DOWN
    served.world.takes = 5.0 if why == "no time left" else 0.0
    answer = await served.ask([1.0], budget_s=5.0)
    assert set(answer.batch.errors) == {0}


async def test_operators_changes_forget_what_was_kept_and_what_is_being_computed() -> None:
    served = Served(World())
    await served.ask([1.0])
    gate = served.world.gate = asyncio.Event()
    running = asyncio.create_task(served.ask([2.0]))
    await asyncio.sleep(0)
    loaded(served.world, 10.0, "b")
    served.caches.forget()
    gate.set()
    assert values(await running) == [2.0]
    assert values(await served.ask([1.0, 2.0])) == [10.0, 20.0]
    assert values(await served.ask([1.0, 2.0])) == [10.0, 20.0]


def test_what_answers_is_named_by_revision_versions_and_arm_or_not_at_all() -> None:
    text = DOCUMENT.replace("VERSION", "1")
    parts = cut(plan(parse(text, "p.yaml"))).tail
    model = parts.stages[0].stage
    assert isinstance(model, ModelStage)
    released = [replace(parts.stages[0], stage=replace(model, version="8")), parts.stages[1]]
    found = {
        identity_of(parts),
        identity_of(parts, "release 17", "candidate"),
        identity_of(parts, "release 17", "live"),
        identity_of(Plan(parts.pipeline, tuple(released))),
        identity_of(cut(plan(parse(text.replace("at: 0.0", "at: 1.0"), "p.yaml"))).tail),
    }
    assert len(found) == 5
    assert "" not in found
    assert identity_of(cut(plan(parse(text.replace('    version: "7"\n', ""), "p.yaml"))).tail) == ""


class Versions(RuleBasedStateMachine):
    """Whatever is asked and changed in whatever order: each answer is what the revision, the weights and the features of the
    moment would give, or what they gave within the ttl."""

    document = DOCUMENT

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.served = Served(World(), self.document)
        self.version, self.uses, self.at, self.pinned = 1, 1, 0.0, "7"

    def run(self, asked: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(asked)

    @rule(
        xs=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=5),
        tenant=st.sampled_from("tu"),
    )
    def ask(self, xs: list[float], tenant: str) -> None:
        self.expected(xs)(self.run(self.served.ask(xs, tenant=tenant)))

    def expected(self, xs: list[float]) -> Callable[[PipelineResult], None]:
        """Checks an answer of what serves now."""
        world, at, version = self.served.world, self.at, self.version
        sha256, ys = world.sha256, [x * world.factor + world.score for x in xs]

        def check(result: PipelineResult) -> None:
            assert values(result) == ys
            assert values(result, "positive") == [y >= at for y in ys]
            (decision,) = result.decisions
            assert decision.version == version
            assert {m.sha256 for m in decision.models} == {sha256}

        return check

    @rule(
        xs=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=3),
        factor=st.sampled_from([3.0, 4.0]),
    )
    def deploy_meanwhile(self, xs: list[float], factor: float) -> None:
        """A revision comes while calls are on their way: each is answered by the one that it found."""
        gate = self.served.world.gate = asyncio.Event()
        calls = []
        for deploys in (True, False):
            calls += [(self.expected(xs), self.loop.create_task(self.served.ask(xs))) for _ in range(2)]
            self.run(asyncio.sleep(0.0))
            if deploys:
                self.deploy(factor)
        gate.set()
        for check, call in calls:
            check(self.run(call))
        self.served.world.gate = None

    @rule(factor=st.sampled_from([1.0, 2.0, -1.0]))
    def load(self, factor: float) -> None:
        """An operator exchanges the weights under the same number."""
        self.uses += 1
        loaded(self.served.world, factor, f"sha{self.uses}")
        self.served.caches.forget()

    @rule(factor=st.sampled_from([1.0, 2.0, -1.0]))
    def load_behind_our_back(self, factor: float) -> None:
        """The executor exchanges them: a row that nobody asked before finds it out."""
        self.uses += 1
        loaded(self.served.world, factor, f"sha{self.uses}")
        self.run(self.served.ask([1000.0 + self.uses]))

    @rule(factor=st.sampled_from([3.0, 4.0]))
    def deploy(self, factor: float) -> None:
        """Another revision, which pins another version."""
        self.version, self.pinned = self.version + 1, f"{factor:g}"
        loaded(self.served.world, factor, f"sha of {factor}")
        document = self.document.replace('"7"', f'"{self.pinned}"').replace("at: 0.0", f"at: {self.at}")
        self.served.deploy(document, self.version)

    @rule(at=st.sampled_from([0.0, 1.5]))
    def revise(self, at: float) -> None:
        """Another revision with the same models."""
        self.version, self.at = self.version + 1, at
        document = self.document.replace('"7"', f'"{self.pinned}"').replace("at: 0.0", f"at: {at}")
        self.served.deploy(document, self.version)

    @rule(score=st.sampled_from([0.0, 0.5]))
    def feature(self, score: float) -> None:
        self.served.world.score = score

    @rule(seconds=st.sampled_from([0.1, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.served.world.now += seconds

    @invariant()
    def bounded(self) -> None:
        if not hasattr(self, "served"):
            return
        entries = self.served.caches._found["scored"].entries
        assert 0 <= entries.bytes <= 65536
        assert not len(self.served.caches._found["scored"].flights)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()


def test_a_change_never_leaves_an_old_answer() -> None:
    run_state_machine_as_test(
        Versions, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
