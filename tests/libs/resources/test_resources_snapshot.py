"""Parts and their hash."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.resources.snapshot import MAX_NAME, PARTS, Resource, Snapshot, is_name, part_of

names = st.text("aB/é -", min_size=1, max_size=3)
resources = st.builds(Resource.of, names, names, st.binary(max_size=8))


def test_the_digest_is_of_the_sorted_lines() -> None:
    one, two = Resource.of("release", "b", b"1"), Resource.of("document", "a", b"2")
    lines = "".join(f"{r.kind}\t{r.name}\t{hashlib.sha256(r.content).hexdigest()}\n" for r in (two, one))
    assert Snapshot.of([one, two]).digest() == hashlib.sha256(lines.encode()).digest()


@given(st.lists(resources), st.lists(resources), st.lists(st.tuples(names, names)))
def test_changes_give_the_whole(
    before: list[Resource], written: list[Resource], deleted: list[tuple[str, str]]
) -> None:
    model = {r.key: r for r in (*before, *written)}
    for key in deleted:
        model.pop(key, None)
    first = Snapshot.of(before)
    changed = first.changed(written, deleted)
    assert changed.resources == model
    assert first.resources == {r.key: r for r in before}
    assert [changed.content(*key) for key in model] == [r.content for r in model.values()]
    assert changed.digest() == Snapshot.of(reversed(list(model.values()))).digest()


@given(st.lists(resources, unique_by=lambda r: r.key), st.lists(resources, unique_by=lambda r: r.key))
def test_other_resources_have_another_digest(one: list[Resource], two: list[Resource]) -> None:
    same = {(r.key, r.sha256) for r in one} == {(r.key, r.sha256) for r in two}
    assert (Snapshot.of(one).digest() == Snapshot.of(two).digest()) == same


@pytest.mark.parametrize("text", ["", "a\tb", "a\nb", "\0", "a" * (MAX_NAME + 1), "\ud800"])
def test_what_would_make_two_parts_alike_is_no_name(text: str) -> None:
    assert not is_name(text)


def test_only_the_door_gets_tenants_and_keys() -> None:
    assert part_of("ingress") == {"release", "document", "freeze", "tenant", "key"}
    assert part_of("router") == {"release", "document", "freeze", "model"}
    assert part_of("executor") == {"release", "document", "model"}
    assert {s for services in PARTS.values() for s in services} == {"ingress", "router", "executor"}
    with pytest.raises(ValueError, match="features"):
        part_of("features")
