"""What a follower has compiled is what a catalog serves, and goes on serving."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline import DocumentError, Pipeline, Problem, content_hash
from headrace.releases import Release
from headrace.releases.document import to_bytes, validated
from headrace.resources.apply import Limits
from headrace.resources.follower import Follower
from headrace.resources.releases import ReleaseCatalog, Reload, release_compiler
from headrace.resources.snapshot import Resource
from tests.libs.releases.small_pipeline import changed
from tests.libs.resources.control_history import History, SmallControl
from tests.libs.resources.following import following, until

LIMITS = Limits(proof_s=0.2, patience_s=1)


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


GATE = threading.Event()


def accept(pipeline: Pipeline) -> None:
    if pipeline.deadline_ms == 666:
        raise DocumentError([Problem("x", 1, "deadline_ms", "not accepted here")])
    if pipeline.deadline_ms == 777:
        GATE.wait(60)


@pytest.fixture
def follower(target: str, tmp_path: Path) -> Iterator[Follower]:
    with following(
        target, tmp_path / "disk", service="router", limits=LIMITS, release=release_compiler(accept)
    ) as follower:
        until(lambda: follower.view)
        yield follower


@pytest.fixture
def catalog(follower: Follower) -> ReleaseCatalog:
    return ReleaseCatalog(follower)


def version(pipeline: Any) -> str:
    found: str = pipeline.stages[0].version
    return found


def numbers(catalog: ReleaseCatalog) -> dict[str, int]:
    return {name: found.number for name, found in catalog.released.items()}


def follow(catalog: ReleaseCatalog, control: SmallControl) -> Reload:
    """Until what control has is taken over, as far as it can be."""
    position = control.history.position
    control.wait_for(lambda requests: requests[-1].have.number == position.number)
    return catalog.reload()


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


def test_each_arm_is_served_with_its_models_pinned(catalog: ReleaseCatalog, control: SmallControl) -> None:
    live, candidate = named("small"), named("small", 300)
    arms = {
        "live": {"version": 1, "revision": revision_of(live), "models": {"light": "2", "heavy": "7"}},
        "candidate": {
            "version": 1,
            "revision": revision_of(candidate),
            "models": {"light": "10", "heavy": "7"},
        },
    }
    control.change(*deployed(2, live, arms=arms), deployed(2, candidate)[1])
    follow(catalog, control)
    served = catalog.released["small"].arms
    found = {name: (pipeline.deadline_ms, version(pipeline)) for name, pipeline in served.items()}
    assert found == {"live": (250, "2"), "candidate": (300, "10")}


def test_a_removed_pipeline(catalog: ReleaseCatalog, control: SmallControl) -> None:
    control.change(deleted=(("release", "small"), ("document", f"small/{revision_of(named('small'))}")))
    assert follow(catalog, control) == Reload(removed=("small",))
    assert numbers(catalog) == {"other": 4}
    control.change(*deployed(2, named("small")))
    assert follow(catalog, control) == Reload(changed=("small",))
    assert numbers(catalog) == {"small": 2, "other": 4}


def test_what_is_compiled_still_is_no_problem(catalog: ReleaseCatalog, control: SmallControl) -> None:
    control.change(*deployed(2, named("small", 777)))
    assert follow(catalog, control) == Reload()
    assert numbers(catalog) == {"small": 1, "other": 4}
    GATE.set()
    until(lambda: catalog.reload() == Reload(changed=("small",)))


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
    found = follow(catalog, control)
    assert numbers(catalog) == {"small": 1, "other": 5}
    [quarantined] = [q.problem for q in catalog.quarantined.values()]
    assert (found.problems, quarantined.file, catalog.unusable) == ((quarantined,), "releases/small/1", set())
    assert catalog.reload() == Reload()  # said once
    control.wait_for(lambda requests: requests[-1].rejected)
    [rejected] = control.requests[-1].rejected
    assert (rejected.kind, rejected.name, rejected.sha256) == ("release", "small", resources[0].sha256)
    assert problem in rejected.problem
    assert follower.status().problem == ""
    control.change(*deployed(6, named("small", 400)))
    assert follow(catalog, control) == Reload(changed=("small",), cleared=("small",))


def test_without_anything_it_says_so_once(tmp_path: Path) -> None:
    with following(f"unix:{tmp_path}/none.sock", service="router") as follower:
        catalog = ReleaseCatalog(follower)
        assert catalog.wait("", 0) == ""
        assert catalog.first.problems == catalog.troubles != ()
        assert (catalog.reload(), catalog.released) == (Reload(), {})


def test_never_good(catalog: ReleaseCatalog, control: SmallControl) -> None:
    control.change(*deployed(1, "pipeline: bad\n", "bad"))
    follow(catalog, control)
    assert (catalog.unusable, numbers(catalog)) == ({"bad"}, {"small": 1, "other": 4})
