"""How old features may be: what the document says, what the features service is told, what becomes of a row."""

from pathlib import Path

import numpy as np
import pytest

from headrace.columns import Batch, Column
from headrace.hop.errors import Code, Reason
from tests.services.router.router_leaves import SCORED, Suite, batch_of, failing, suite

MINUTE_US = 60_000_000
PRESENT, NOT_FOUND, OUTSIDE, STALE, DEFAULT = range(1, 6)
NAMES = ["", "", "not_found", "outside_max_age", "stale", "default"]


def document(name: str, view: str) -> str:
    return SCORED.replace("pipeline: scored", f"pipeline: {name}").replace("on_missing: default", view)


DOCUMENTS = {
    "aged": document("aged", "freshness: {max_age: 2m, stale: 1m}"),
    "strict": document("strict", "freshness: {max_age: 2m, otherwise: refuse}"),
    "lenient": document("lenient", "freshness: {max_age: 2m, stale: 1m, otherwise: refuse}"),
    "known": document("known", "on_missing: refuse, freshness: {max_age: 2m, otherwise: default}"),
}


async def asked(running: Suite, name: str, sources: list[int]) -> Batch:
    """The pipeline's answer for rows whose features are from these sources, and are minutes of age as their place is."""

    async def answer(sent: Batch) -> Batch:
        ages = np.arange(len(sent)) * MINUTE_US
        columns = [
            Column.of("score", np.full(len(sent), 7.0), np.isin(sources, [PRESENT, STALE])),
            Column.of("@age_us/user", np.where(np.isin(sources, [NOT_FOUND, DEFAULT]), -1, ages)),
            Column.of("@source/user", np.array(sources, np.uint8)),
        ]
        return Batch(sent.rows, {c.name: c for c in columns})

    running.features.hook = answer
    return (await running.ask(name, batch_of(["ab"] * len(sources), [0.0] * len(sources)))).batch


async def test_the_features_service_is_told_the_rules(tmp_path: Path) -> None:
    async with suite(tmp_path, {**DOCUMENTS, "scored": SCORED}) as running:
        await running.ask("aged", batch_of(["ab"], [1.0]))
        assert running.features.rules == [("user", 2 * MINUTE_US, MINUTE_US)]
        await running.ask("strict", batch_of(["ab"], [1.0]))
        assert running.features.rules == [("user", 2 * MINUTE_US, 0)]
        await running.ask("scored", batch_of(["ab"], [1.0]))
        assert running.features.rules == []


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("aged", []),
        ("strict", [OUTSIDE, STALE, DEFAULT]),
        ("lenient", [OUTSIDE, DEFAULT]),
        ("known", [NOT_FOUND, DEFAULT]),
    ],
)
async def test_a_row_is_stale_then_default_or_refused(tmp_path: Path, name: str, refused: list[int]) -> None:
    sources = [PRESENT, NOT_FOUND, OUTSIDE, STALE, DEFAULT]
    async with suite(tmp_path, DOCUMENTS) as running:
        answer = await asked(running, name, sources)
        causes = {source: f"features/user:{NAMES[source]}" for source in sources[1:]}
        refusals = {
            source: running.sample("router_refused_rows_total", pipeline=name, cause=cause)
            for source, cause in causes.items()
        }
    assert {sources[row] for row in answer.errors} == set(refused)
    assert {source for source, count in refusals.items() if count == 1} == set(refused)
    for row, source in enumerate(sources):
        if source not in refused:
            assert answer.columns["y"].array[row] == (7.0 if source in (PRESENT, STALE) else -1.0)
    assert answer.columns["@source/user"].array.tolist() == sources
    used = [row for row, bits in enumerate(answer.columns["@fallbacks"].array.tolist()) if bits]
    assert [sources[row] for row in used] == [s for s in sources[1:] if s not in refused]
    [store] = [t for t in answer.timings if t.stage == "store"]
    told = [f"features/user:{NAMES[s]}" for s in sources if s in refused]
    assert store.attributes.get("refused", "").split() == told


async def test_a_refusal_tells_the_view_and_the_ages(tmp_path: Path) -> None:
    async with suite(tmp_path, DOCUMENTS) as running:
        answer = await asked(running, "lenient", [PRESENT, PRESENT, STALE, PRESENT, OUTSIDE, DEFAULT])
        nonsense = await asked(running, "lenient", [PRESENT, DEFAULT + 1])
    assert nonsense.errors[0].code is Code.INTERNAL
    old, unknown = answer.errors[4], answer.errors[5]
    assert (old.code, old.reason) == (Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE)
    assert old.stage == "store"
    assert old.metadata == {
        "view": "user", "source": "outside_max_age", "age_ms": "240000", "max_age_ms": "180000",
    }  # fmt: skip
    assert "4m old" in old.message
    assert "up to 3m" in old.message
    assert unknown.metadata == {"view": "user", "source": "default", "max_age_ms": "180000"}


async def test_features_down_fails_rows_whose_age_matters(tmp_path: Path) -> None:
    async with suite(tmp_path, DOCUMENTS) as running:
        running.features.hook = failing(Code.UNAVAILABLE, Reason.REASON_DRAINING)
        assert not (await running.ask("aged", batch_of(["ab"], [1.0]))).batch.errors
        refused = (await running.ask("lenient", batch_of(["ab"], [1.0]))).batch.errors[0]
    assert (refused.code, refused.stage) == (Code.UNAVAILABLE, "store")
