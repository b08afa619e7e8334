"""A pipeline with two routes: rows are dealt out, run apart, put back in their places and counted by arm. Stages that all arms
have run once for all rows, and what comes of it is as if each arm had run them."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, DType, Ragged, RowError, Rows, Timing
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import DocumentError, ModelStage, ModelUse, parse
from headrace.releases.document import validated
from headrace.ticks import ArmFigures, ArmName
from services.router.inference import PipelineResult
from services.router.pipelines import Compiler, Pipelines, Served
from services.router.routes.join import DECISION, join
from services.router.routes.route import Route, Share
from services.router.routes.run import FALLBACKS, RouteResult, bits
from services.router.routes.scatter import scatter
from services.router.routes.shared_stages import SharedStages
from services.router.routes.table import RouteTable
from services.router.stages.runner import StageResult
from services.router.ticks.counters import NO_RELEASE, Counted, Counters
from tests.first_release import first_released
from tests.services.router.one_pipeline import inference
from tests.services.router.router_leaves import SCORED

DOCUMENT = """\
pipeline: double
version: 1
deadline_ms: 100
inputs: {x: float32}
stages:
  - model: times
    name: NAME
    inputs: {x: x}
    outputs: {y: {column: y, type: float32}}
outputs: [y]
"""
HALVES = {"weights": {"live": 0.5, "candidate": 0.5}, "by": "x"}
SHARED = """\
pipeline: chain
version: 1
deadline_ms: 100
inputs: {x: float32}
stages:
  - {model: head, name: HEAD, inputs: {x: x}, outputs: {y: {column: h, type: float32}}}
  - {model: middle, name: MIDDLE, inputs: {h: h}, outputs: {y: {column: m, type: float32}}}
  - {model: tail, name: add1, inputs: {m: m}, outputs: {y: {column: y, type: float32}}}
outputs: [y, h]
"""
REFUSED = RowError(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, "no weather")
# Rows with this value fail in the head; those above it are on a fallback there.
FAILS = 3.0
HOW = Counted(4, compares=True, by="x", salt="s")


class Multiplier:
    """Runs a model stage: multiplies by the number at the end of the model's name."""

    service = "executor"

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage

    async def run(self, batch: Batch) -> StageResult:
        factor = np.float32(self._stage.model.removeprefix("times"))
        column = Column.of("y", batch.columns["x"].array * factor)
        return StageResult([column], models=[ModelUse(self._stage.name, self._stage.model, "1", "ff")])


def batch(count: int) -> Batch:
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    return Batch.of(rows, [Column.of("x", np.arange(count, dtype=np.float32))])


def two_arms(runner: type[Multiplier] = Multiplier, counted: Counted = NO_RELEASE, **changes: Any) -> Served:
    """One pipeline whose release has two arms, of two versions of the document."""
    compiler = Compiler({"model": runner})
    texts = {"live": DOCUMENT.replace("NAME", "times2"), "candidate": DOCUMENT.replace("NAME", "times10")}
    texts["candidate"] = texts["candidate"].replace("version: 1", "version: 2")
    compiled = {
        arm: compiler.compile(first_released(parse(text, f"{arm}.yaml"))) for arm, text in texts.items()
    }
    arm = {"version": 1, "revision": "ab" * 32}
    values = {"pipeline": "double", "number": 4, "arms": dict.fromkeys(texts, arm), **changes}
    found, arms = validated("double", values), {a: c.pipeline for a, c in compiled.items()}
    table = RouteTable.compile(found, arms)
    routes = tuple(Route(a, c.routes[0].plan, c.routes[0].runners) for a, c in compiled.items())
    return Served(compiled["live"].pipeline, routes, table, release=found.number, counted=counted)


def rules(**arms: list[float]) -> list[dict[str, Any]]:
    return [{"name": f"to-{arm}", "when": {"x": {"any": values}}, "arm": arm} for arm, values in arms.items()]


@pytest.mark.parametrize("count", [5, 40])
async def test_each_row_names_its_arm_and_its_rule(count: int) -> None:
    assign = {"weights": {"live": 0, "candidate": 1}}
    some = rules(candidate=[1.0], live=[2.0, 3.0])
    answer = await inference(two_arms(rules=some, assign=assign)).infer("double", 0, batch(count))
    factors = [2.0 if x in (2, 3) else 10.0 for x in range(count)]
    assert answer.batch.columns["y"].array.tolist() == [x * f for x, f in enumerate(factors)]
    told = [answer.decisions[i] for i in answer.batch.columns["@decision"].array.tolist()]
    expected = [("candidate", 2, ""), ("candidate", 2, "to-candidate"), *[("live", 1, "to-live")] * 2]
    expected += [("candidate", 2, "")] * (count - 4)
    assert [(d.route, d.version, d.rule) for d in told] == expected
    assert {d.release for d in told} == {4}
    assert {(d.route, d.models[0].model) for d in told} == {("live", "times2"), ("candidate", "times10")}
    assert len(answer.decisions) == 3


async def test_one_arm_needs_no_index_of_decisions() -> None:
    answer = await inference(two_arms(assign=HALVES)).infer("double", 0, batch(1))
    [decision] = answer.decisions
    assert decision.sticky
    assert "@decision" not in answer.batch.columns


def test_a_pipeline_whose_service_is_not_configured_is_refused() -> None:
    compiler = Compiler({"model": Multiplier})
    with pytest.raises(DocumentError) as error:
        compiler.compile(first_released(parse(SCORED, "scored.yaml")))
    assert [p.key for p in error.value.problems] == ["stages[0]", "stages[1]", "stages[3]"]
    assert "no client for the service of a features stage" in error.value.problems[0].message


async def test_a_version_goes_on_for_those_who_know_no_newer() -> None:
    pipelines = Pipelines(Compiler({"model": Multiplier}))
    texts = [DOCUMENT.replace("version: 1", f"version: {v}") for v in (1, 2, 3)]
    for text in texts:
        pipelines.replace({"double": first_released(parse(text, "double.yaml"))})
    assert pipelines.find("double", 0).pipeline.version == 3
    assert pipelines.find("double", 2).pipeline.version == 2
    with pytest.raises(Fault) as error:
        pipelines.find("double", 1)
    assert (error.value.code, error.value.reason) == (Code.NOT_FOUND, Reason.REASON_VERSION_UNKNOWN)
    pipelines.replace({})
    with pytest.raises(Fault):
        pipelines.find("double", 2)


class Adder:
    """Runs a model stage: adds the number at the end of the model's name to what it reads."""

    service = "executor"
    ran: list[tuple[str, int]]

    def __init__(self, stage: ModelStage) -> None:
        self._stage = stage

    async def run(self, batch: Batch) -> StageResult:
        name, model = self._stage.name, self._stage.model
        Adder.ran.append((name, len(batch)))
        [values] = [column.array for column in batch.columns.values()]
        added = Column.of(
            {"head": "h", "middle": "m", "tail": "y"}[name], values + np.float32(model.removeprefix("add"))
        )
        uses = [ModelUse(name, model, "1", "ff")]
        if name != "head":
            return StageResult([added], models=uses)
        age = Column.of("@age", np.arange(len(values), dtype=np.int64))
        return StageResult(
            [added],
            [age],
            errors={i: REFUSED for i, value in enumerate(values.tolist()) if value == FAILS},
            fallbacks={"stale": values > FAILS},
            refusals={"stale": 1},
            timings=[Timing("inside", "executor", 0, 5, len(values))],
            models=uses,
        )


class Thirds(RouteTable):
    """The third row of each three goes to the second route."""

    def __init__(self) -> None:
        """Of no release."""

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        rows = np.arange(len(batch))
        return [Share(routes[0], rows[rows % 3 != 2]), Share(routes[1], rows[rows % 3 == 2])]


def route(arm: str, head: str, middle: str) -> tuple[Served, Route]:
    text = SHARED.replace("HEAD", head).replace("MIDDLE", middle)
    made = Compiler({"model": Adder}).compile(first_released(parse(text, "chain.yaml")))
    return made, Route(arm, made.routes[0].plan, made.routes[0].runners)


async def answered(head: str, count: int = 6) -> PipelineResult:
    Adder.ran = []
    rows = Rows.one_request(count, "r", "t", time.monotonic() + 60)
    batch = Batch.of(rows, [Column.of("x", np.arange(count, dtype=np.float32))])
    live, first = route("live", "add100", "add10")
    _, second = route("candidate", head, "add20")
    return await inference(Served(live.pipeline, (first, second), Thirds())).infer("chain", 0, batch)


async def test_a_stage_that_both_arms_have_runs_once_and_is_timed_for_all_rows() -> None:
    timed = [(t.stage, t.row_count) for t in (await answered("add100")).batch.timings]
    stages = ["head", "head/inside", "middle", "middle", "tail", "tail"]
    assert sorted(timed) == list(zip(stages, [6, 6, 2, 3, 2, 3], strict=True))
    # Row 3 failed in the head, so it goes no further.
    assert sorted(Adder.ran) == [("head", 6), ("middle", 2), ("middle", 3), ("tail", 2), ("tail", 3)]


async def test_a_stage_that_differs_runs_for_each_arm_and_so_do_those_behind_it() -> None:
    await answered("add200")
    assert sorted(Adder.ran)[:2] == [("head", 2), ("head", 4)]


def summary(result: PipelineResult) -> dict[str, Any]:
    batch = result.batch
    bits = batch.columns[FALLBACKS].array.tolist()
    return {
        "y": [y for i, y in enumerate(batch.columns["y"].array.tolist()) if i not in batch.errors],
        "h": [h for i, h in enumerate(batch.columns["h"].array.tolist()) if i not in batch.errors],
        "errors": {i: (e.code, e.reason, e.stage) for i, e in batch.errors.items()},
        "fallbacks": [[n for b, n in enumerate(result.fallbacks) if bit >> b & 1] for bit in bits],
        "decisions": batch.columns["@decision"].array.tolist(),
        "models": [[(m.stage, m.model) for m in d.models] for d in result.decisions],
    }


async def test_each_row_is_answered_as_if_its_arm_had_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together = await answered("add100")
    monkeypatch.setattr(SharedStages, "of", lambda self, routes: frozenset())
    apart = await answered("add100")
    assert len(Adder.ran) == 6
    assert summary(together) == summary(apart)
    assert summary(together)["y"] == [111.0, 112.0, 123.0, 115.0, 126.0]
    code, reason = Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE
    assert summary(together)["errors"] == {3: (code, reason, "head")}
    assert summary(together)["fallbacks"] == [[], [], [], [], ["stale"], ["stale"]]
    # Of its own batch: rows of the head's one call.
    assert together.batch.columns["@age"].array.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_shared_ends_with_the_first_stage_that_differs() -> None:
    routes = [route(arm, "add100", middle)[1] for arm, middle in (("a", "add10"), ("b", "add20"))]
    assert SharedStages().of(routes) == {0}
    same = [route(arm, "add100", "add10")[1] for arm in "ab"]
    assert SharedStages().of(same) == {0, 1, 2}


class Broken(Multiplier):
    """Ends with a bug."""

    async def run(self, batch: Batch) -> StageResult:
        raise KeyError("y")


async def counted(
    count: int, runner: type[Multiplier] = Multiplier, **changes: Any
) -> dict[ArmName, ArmFigures]:
    counters = Counters()
    try:
        found = two_arms(runner, HOW, **changes)
        await inference(found, counters=counters).infer("double", 0, batch(count))
    except (KeyError, ExceptionGroup):
        assert runner is Broken
    return dict(counters.tick().arms)


@pytest.mark.parametrize("count", [5, 40])
async def test_rows_by_weight_and_by_rule_are_apart(count: int) -> None:
    arms = await counted(
        count,
        rules=rules(candidate=[1.0], live=[2.0, 3.0]),
        assign={"weights": {"live": 0, "candidate": 1}, "by": "x", "salt": "s"},
    )
    rows = {(name.release, name.arm, name.by_rule): f.rows for name, f in arms.items()}
    assert rows == {(4, "live", True): 2, (4, "candidate", True): 1, (4, "candidate", False): count - 3}
    drawn = arms[ArmName("double", 4, "candidate")]
    assert drawn.assigned.new_keys == drawn.assigned.fresh_rows == count - 3


@pytest.mark.parametrize("weights", [{"live": 1, "candidate": 0}, {"live": 0.5, "candidate": 0.5}])
async def test_rows_that_our_own_bug_loses_are_errors(weights: dict[str, float]) -> None:
    arms = await counted(40, Broken, assign={"weights": weights, "by": "x", "salt": "s"})
    # Where one arm breaks the call, the other may not have come so far.
    assert arms
    assert all(f.errors == f.rows > 0 and f.assigned.fresh_bad == f.rows for f in arms.values())


async def test_a_batch_that_does_not_fit_is_no_arms_fault() -> None:
    counters = Counters()
    empty = batch(3)
    empty.columns = {}
    with pytest.raises(Fault):
        await inference(two_arms(counted=HOW), counters=counters).infer("double", 0, empty)
    assert counters.tick().arms == {}


some_rows = st.lists(st.booleans(), min_size=1, max_size=30).filter(any)


@given(some_rows, st.integers(1, 3), st.booleans())
def test_scatter_is_the_inverse_of_take(there: list[bool], size: int, masked: bool) -> None:
    count, rows = len(there), np.flatnonzero(there)
    valid = np.arange(count) % 2 == 0 if masked else None
    numbers = Column.of("n", np.arange(1, count * size + 1, dtype=np.int32).reshape(count, size), valid)
    items = [b"x" * (i % 4) + b"%d" % i for i in range(count * size)]
    texts = Column("t", DType.BYTES, Ragged.of(items), (size,), valid)
    for column in (numbers, texts):
        spread = scatter(column.take(rows), rows, count, -1)
        back = spread.take(rows)
        assert len(spread) == count
        if column is numbers:
            assert back.array.tolist() == column.take(rows).array.tolist()
            assert (spread.array[~np.array(there)] == -1).all()
        else:
            assert back.ragged.to_list() == column.take(rows).ragged.to_list()
            assert set(spread.take(np.flatnonzero(~np.array(there))).ragged.to_list()) <= {b""}
        assert back.is_valid().tolist() == column.take(rows).is_valid().tolist()


def test_a_slice_of_byte_strings_scatters() -> None:
    column = Column.of_bytes("t", [b"a", b"bb", b"ccc"]).slice(1, 3)
    assert scatter(column, np.array([0, 2]), 3).ragged.to_list() == [b"bb", b"", b"ccc"]


def outcome(
    numbers: list[int], fallbacks: dict[str, list[bool]], annotations: list[Column], failed: list[int]
) -> RouteResult:
    count = len(numbers)
    names = [str(n) for n in numbers]
    rows = Rows(names, ["t"] * count, [1] * count, [9.0] * count, [""] * count)
    used = {name: np.array(mask, bool) for name, mask in fallbacks.items()}
    errors = {i: RowError(Code.INTERNAL, Reason.REASON_INTERNAL, names[i]) for i in failed}
    columns = [Column.of("y", np.array(numbers, np.int64)), *annotations, bits(used, count)]
    return RouteResult(
        Batch.of(rows, columns).with_errors(errors), list(used), [ModelUse("s", f"m{count}", "1", "")]
    )


def test_routes_join_in_the_order_of_the_request() -> None:
    first = outcome([0, 3], {"b": [True, False], "a": [False, True]}, [], [1])
    ages = [Column.of("@age_us/v", np.array([5, 6, 7])), Column.of("@source/v", np.ones(3, np.uint8))]
    second = outcome([1, 2, 4], {"a": [False, True, True]}, ages, [0])
    joined = join([first, second], [np.array([0, 3]), np.array([1, 2, 4])])
    batch = joined.batch
    assert batch.rows.request_ids == ["0", "1", "2", "3", "4"]
    assert batch.columns["y"].array.tolist() == [0, 1, 2, 3, 4]
    assert batch.columns[DECISION].array.tolist() == [0, 1, 1, 0, 1]
    assert batch.columns["@age_us/v"].array.tolist() == [-1, 5, 6, -1, 7]
    assert batch.columns["@source/v"].array.tolist() == [0, 1, 1, 0, 1]
    assert joined.fallbacks == ["b", "a"]
    assert batch.columns[FALLBACKS].array.tolist() == [1, 0, 2, 2, 2]
    assert {row: e.message for row, e in batch.errors.items()} == {1: "1", 3: "3"}
    assert [m.model for m in joined.models] == ["m2", "m3"]
