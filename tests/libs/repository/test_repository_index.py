"""The index of a model as a record, and its changes by several writers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.catalog.records import CatalogRecords
from headrace.repository import ModelIndex, Repository, RepositoryError, changes
from headrace.repository.model_index import all_indexes, index_of, newest, recorded
from tests.libs.repository.signed_models import Signed, signed

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,9}", fullmatch=True).filter(lambda name: ".." not in name)
DIGESTS = st.integers(0, 255).map(lambda n: f"{n:02x}" * 32)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    with closing(CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)) as found:
        yield found


@pytest.fixture
def models(tmp_path: Path) -> Signed:
    return signed(tmp_path)


def done(records: CatalogRecords) -> list[tuple[str, str, str]]:
    """Who did what to which model."""
    found = [json.loads(line.line) for line in records.lines()]
    return [(f["actor"], f["action"], f["subject"]) for f in found if f["action"].startswith("model.")]


def test_a_model_lives_its_life_and_each_change_is_in_the_audit(
    records: CatalogRecords, models: Signed
) -> None:
    for version in ("9", "10"):
        changes.add(records, models.put(version), "ann")
    repository = Repository(models.root, index=recorded(records))
    assert repository.versions("light") == ["9", "10"]
    changes.label(records, "light", "9", "champion", "bob")
    assert repository.resolve("light", "champion") == "9"
    with pytest.raises(RepositoryError, match="the label 'champion' points at it"):
        changes.remove(records, models.root, "light", "9", "bob")
    changes.label(records, "light", "10", "champion", "bob")
    assert repository.read("light", repository.resolve("light", "champion")).metadata.version == "10"
    assert changes.unlabel(records, "light", "champion", "bob") == "10"
    changes.remove(records, models.root, "light", "9", "cy")
    assert (repository.versions("light"), repository.labels("light")) == (["10"], {})
    assert not (models.root / "light" / "9").exists()
    assert done(records) == [
        *[("ann", "model.add", "light")] * 2,
        *[("bob", "model.label", "light")] * 2,
        ("bob", "model.unlabel", "light"),
        ("cy", "model.remove", "light"),
    ]


def test_what_can_not_be_changed_is_named_and_changes_nothing(
    records: CatalogRecords, models: Signed
) -> None:
    changes.add(records, models.put("1"), "ann")
    before = all_indexes(records)
    for name, version, says in (
        ("champion", "7", r"there is no such version in the index \(there are: 1\)"),
        ("1", "1", "is a version already"),
        ("../x", "1", "is no version or label name"),
    ):
        with pytest.raises(RepositoryError, match=says):
            changes.label(records, "light", version, name, "ann")
    with pytest.raises(RepositoryError, match=r"there is no label 'champion' \(there are: none\)"):
        changes.unlabel(records, "light", "champion", "ann")
    for model in ("nobody", "light"):
        with pytest.raises(RepositoryError, match="there is no such version"):
            changes.remove(records, models.root, model, "3", "ann")
    with pytest.raises(RepositoryError, match="is published already"):
        changes.add(records, signed(models.root / "other").put("1", content=b"other"), "ann")
    assert all_indexes(records) == before
    # Files that were not listed before their writer died.
    models.put("2")
    changes.remove(records, models.root, "light", "2", "ann")
    assert Repository(models.root).versions("light") == ["1"]


def test_several_writers_lose_nothing(records: CatalogRecords, models: Signed) -> None:
    published = [models.put(str(i)) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda about: changes.add(records, about, "many"), published))
    assert newest(records, "light")[0] == ModelIndex("light", {a.version: a.digest() for a in published})


@given(st.dictionaries(NAMES, DIGESTS, min_size=1), st.data())
def test_what_is_written_is_read_again(versions: dict[str, str], data: st.DataObject) -> None:
    labels = data.draw(
        st.dictionaries(NAMES.filter(lambda n: n not in versions), st.sampled_from(sorted(versions)))
    )
    index = ModelIndex("light", versions, labels)
    assert index_of("light", index.content()) == index
