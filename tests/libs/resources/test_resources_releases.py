"""The data plane's readers on what a follower has: `ReleaseCatalog` serves, and goes on serving, by it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline import DocumentError, Pipeline, Problem, content_hash
from headrace.releases import Release, ReleaseCatalog
from headrace.releases.document import to_bytes, validated
from headrace.releases.store import REMOVED
from headrace.resources.apply import Limits
from headrace.resources.follower import Follower
from headrace.resources.releases import SnapshotReleases, release_compiler
from headrace.resources.snapshot import Resource
from tests.libs.releases.small_pipeline import changed
from tests.libs.resources.control_history import History, SmallControl
from tests.libs.resources.following import following, until

LIMITS = Limits(proof_s=0.2, patience_s=10)


def revision_of(text: str) -> str:
    return content_hash(text) or hashlib.sha256(text.encode()).hexdigest()


def release(number: int, text: str, pipeline: str = "small", **changes: Any) -> Release:
    arm = {"version": 1, "revision": revision_of(text), "models": {"light": "1", "heavy": "7"}}
    values = {"pipeline": pipeline, "number": number, "parent": number - 1, "arms": {"live": arm}}
    return validated(pipeline, {**values, **changes})


def deployed(number: int, text: str, pipeline: str = "small", **changes: Any) -> list[Resource]:
    """The resources of a release."""
    found = release(number, text, pipeline, **changes)
    return [
        Resource.of("release", pipeline, to_bytes(found), version=number + 100),
        Resource.of("document", f"{pipeline}/{revision_of(text)}", text.encode()),
    ]


def named(pipeline: str, deadline: int = 250) -> str:
    return changed(("pipeline: small", f"pipeline: {pipeline}"), ("ms: 250", f"ms: {deadline}"))


@pytest.fixture
def history() -> History:
    history = History()
    history.change(*deployed(1, named("small")), *deployed(4, named("other"), "other"))
    return history


def accept(pipeline: Pipeline) -> None:
    if pipeline.deadline_ms == 666:
        raise DocumentError([Problem("x", 1, "deadline_ms", "not accepted here")])


@pytest.fixture
def follower(target: str, tmp_path: Path) -> Iterator[Follower]:
    with following(
        target, tmp_path / "disk", service="router", limits=LIMITS, release=release_compiler(accept)
    ) as follower:
        until(lambda: follower.view)
        yield follower


@pytest.fixture
def catalog(follower: Follower) -> ReleaseCatalog:
    return ReleaseCatalog(SnapshotReleases(follower), accept=accept)


def numbers(catalog: ReleaseCatalog) -> dict[str, int]:
    return {name: found.number for name, found in catalog.released.items()}


def follow(catalog: ReleaseCatalog, control: SmallControl) -> None:
    """Until what control has is taken over, as far as it can be."""
    position = control.history.position
    control.wait_for(lambda requests: requests[-1].have.number == position.number)
    catalog.reload()


def test_a_catalog_serves_what_a_follower_has(catalog: ReleaseCatalog, control: SmallControl) -> None:
    assert numbers(catalog) == {"small": 1, "other": 4}
    before, seen = catalog.released["other"], catalog.wait("", 0)
    assert catalog.wait(seen, 0.01) == seen
    control.change(*deployed(2, named("small", 300)))
    assert catalog.wait(seen, 60) != seen
    follow(catalog, control)
    assert numbers(catalog) == {"small": 2, "other": 4}
    assert catalog.pipelines["small"].deadline_ms == 300
    assert catalog.released["other"] is before
    assert dict(catalog.quarantined) == {}


def test_a_removed_pipeline(catalog: ReleaseCatalog, control: SmallControl, follower: Follower) -> None:
    store = SnapshotReleases(follower)
    assert store.current("small")[0].number == 1
    control.change(deleted=(("release", "small"), ("document", f"small/{revision_of(named('small'))}")))
    follow(catalog, control)
    assert numbers(catalog) == {"other": 4}
    _, broken = store.current("small")
    assert (broken.number, broken.problem) == (1, REMOVED)
    assert store.current("never") == (None, None)
    control.change(*deployed(2, named("small")))
    follow(catalog, control)
    assert numbers(catalog) == {"small": 2, "other": 4}


RULE = {"name": "r", "when": {"nope": {"any": ["x"]}}, "arm": "live"}
OTHER_DOCUMENT = Resource.of("document", f"small/{revision_of(named('small', 9))}", b"other")


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ([Resource.of("release", "small", b"{}")], "no release document"),
        (deployed(2, "pipeline: small\nnonsense"), "arms.live"),
        (deployed(2, named("small", 666)), "not accepted here"),
        (deployed(2, named("small"), rules=[RULE]), "nope"),
        (deployed(2, named("small", 9))[:1], "its document is not stored"),
        ([deployed(2, named("small", 9))[0], OTHER_DOCUMENT], "arms.live"),
    ],
)
def test_what_is_refused(
    resources: list[Resource],
    problem: str,
    catalog: ReleaseCatalog,
    control: SmallControl,
    follower: Follower,
) -> None:
    control.change(*resources, *deployed(5, named("other", 300), "other"))
    follow(catalog, control)
    assert numbers(catalog) == {"small": 1, "other": 5}
    control.wait_for(lambda requests: requests[-1].rejected)
    [rejected] = control.requests[-1].rejected
    assert (rejected.kind, rejected.name, rejected.sha256) == ("release", "small", resources[0].sha256)
    assert problem in rejected.problem
    assert follower.status().problem == ""


def test_without_anything_the_store_can_not_be_reached(tmp_path: Path) -> None:
    with following(f"unix:{tmp_path}/none.sock", service="router") as follower:
        store = SnapshotReleases(follower)
        with pytest.raises(OSError, match="nothing to serve"):
            store.wait("", 0)
        with pytest.raises(OSError, match="nothing to serve"):
            store.pipelines()
        catalog = ReleaseCatalog(store)
        assert catalog.troubles


def test_never_good(catalog: ReleaseCatalog, control: SmallControl, follower: Follower) -> None:
    control.change(*deployed(1, "pipeline: bad\n", "bad"))
    follow(catalog, control)
    assert (catalog.unusable, numbers(catalog)) == ({"bad"}, {"small": 1, "other": 4})
