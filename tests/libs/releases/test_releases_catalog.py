"""What serves of each pipeline: the newest release that can be used, the last good one while that is broken."""

from pathlib import Path
from typing import Any

from headrace.releases import ReleaseCatalog, Reload
from headrace.releases.document import to_bytes
from tests.control_service import execute
from tests.libs.releases.release_stores import OTHER
from tests.libs.releases.small_pipeline import Home, changed
from tests.released import database, spoil


def light(catalog: ReleaseCatalog) -> str | None:
    """The version of the first model that serves; None: nothing does."""
    return version(catalog.pipelines["small"]) if "small" in catalog.pipelines else None


def version(pipeline: Any) -> str:
    found: str = pipeline.stages[0].version
    return found


def test_the_newest_release_serves_with_its_models_pinned(home: Home) -> None:
    catalog = ReleaseCatalog(home.store)
    assert catalog.released == {}
    home.deploy(models={"light": "1"})
    assert catalog.reload() == Reload(changed=("small",))
    assert light(catalog) == "1"
    same = catalog.released["small"]
    assert catalog.reload() == Reload()
    assert catalog.released["small"] is same
    home.deploy(models={"light": "2"})
    assert catalog.reload().changed == ("small",)
    assert (light(catalog), catalog.released["small"].number) == ("2", 2)
    home.deploy(changed(("version: 1\n", "version: 2\n")), "candidate", models={"light": "10"})
    catalog.reload()
    arms = catalog.released["small"].arms
    assert {name: p.version for name, p in arms.items()} == {"live": 1, "candidate": 2}
    assert {name: version(p) for name, p in arms.items()} == {"live": "2", "candidate": "10"}
    home.store.remove("small")
    assert catalog.reload() == Reload(removed=("small",))


def test_of_an_altered_release_what_served_goes_on_and_a_new_one_mends_it(home: Home, tmp_path: Path) -> None:
    home.deploy(models={"light": "1"})
    catalog = ReleaseCatalog(home.store)
    good = home.deploy(models={"light": "2"})
    catalog.reload()
    spoil(database(tmp_path), "small", 2, to_bytes(good).replace(b'"me"', b'"you"'))
    starting = ReleaseCatalog(home.store)
    home.store.keep_document("other", OTHER, "x")  # what is stored is looked at anew
    for reader in (catalog, starting):
        reader.reload()
        # Not the one before, which may have been left for a reason.
        assert light(reader) == ("2" if reader is catalog else None)
        [problem] = reader.quarantined["small"].problems
        assert problem.file == "releases/small/2"
        assert problem.message == "sha256: the document was altered after it was written"
        assert reader.unusable == (frozenset() if light(reader) else {"small"})
    assert catalog.reload().problems == ()  # said once
    home.deploy(models={"light": "10"})
    assert catalog.reload().cleared == ("small",)
    assert (light(catalog), catalog.released["small"].number) == ("10", 3)


def test_while_the_store_is_away_what_served_goes_on(home: Home, tmp_path: Path) -> None:
    home.deploy(models={"light": "1"})
    catalog = ReleaseCatalog(home.store)
    home.deploy(models={"light": "2"})
    execute(str(database(tmp_path)), "ALTER TABLE records RENAME TO away")
    [problem] = catalog.reload().problems
    assert "can't be reached" in problem.message
    assert (light(catalog), catalog.reload().problems) == ("1", ())
    starting = ReleaseCatalog(home.store)
    assert (starting.released, len(starting.troubles)) == ({}, 1)
    execute(str(database(tmp_path)), "ALTER TABLE away RENAME TO records")
    for reader in (catalog, starting):
        reader.reload()
        assert (light(reader), reader.troubles) == ("2", ())
