"""A shadow beside the live arm of a whole system: it answers nobody, and operators see how it compares."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Shadow
from tests.system import DOCUMENTS, System, headrace, poll, releases, row_request

# Another threshold: some flights are late for the shadow alone.
CHANGED = "at: 0.3", "at: 0.2"


@pytest.fixture
def shadowed() -> Iterator[int]:
    """A release with a shadow; returns its number."""
    store = releases()
    before, _ = store.current("flights")
    assert before is not None
    text = (DOCUMENTS / "flights" / "pipeline.yaml").read_text()
    assert CHANGED[0] in text
    other = parse(text.replace(*CHANGED), "next")
    live = before.arms[LIVE]
    arm = Arm(version=other.version, revision=other.revision, models=live.models)
    release = before.next("tests", "a shadow", arms={LIVE: live, "next": arm}, shadow=Shadow(arm="next"))
    store.commit(release, {other.revision: text.replace(*CHANGED)})
    yield release.number
    after, _ = store.current("flights")
    assert after is not None
    store.commit(after.next("tests", "no shadow", arms={LIVE: live}, shadow=None))


def test_a_shadow_is_compared_row_by_row_and_answers_nobody(system: System, shadowed: int) -> None:
    def report() -> dict[str, Any] | None:
        request = row_request(*system.rows[:40])
        answer = system.predict(request)
        assert all(not p.HasField("error") for p in answer.predictions)
        told = json.loads(headrace("shadow", "report", "flights", "--json"))
        [newest, *_] = told.get("reports") or [{"release": 0}]
        compared = int(newest.get("both_answered_count", 0)) >= 40 and int(newest["release"]) == shadowed
        return newest if compared else None

    found = poll("the shadow's report", report, within_s=120)
    assert (found["arm"], found["against"]) == ("next", LIVE)
    assert int(found.get("shadow_failed_count", 0)) == 0
    outputs = {output["name"]: output for output in found["outputs"]}
    probability, delayed = outputs["probability"], outputs["delayed"]
    # The same model; features that are read once for both.
    assert probability["equal_count"] == probability["row_count"]
    assert int(delayed["shadow_true_count"]) > 0
    assert int(delayed.get("live_true_count", 0)) == 0
    worst = found["worst"][0]
    assert worst["values"] == [{"output": "delayed", "live": "False", "shadow": "True"}]
    assert "/" in worst["prediction_id"]
    told = headrace("shadow", "report", "flights")
    assert "delayed" in told
    assert "only shadow" in told
