"""What control takes as a tenant and as a key."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.access import changes
from headrace.access.records import KEY, TENANT, By
from headrace.access.specs import KeySpec, TenantSpec, new_key
from headrace.catalog.access import Change, Write
from headrace.catalog.errors import RecordInvalidError
from headrace.catalog.records import CatalogRecords
from services.control.records.kinds import check_writes
from tests.live_access import CREATED

ME = By("tests")
SPEC = TenantSpec(pipelines=("*",), scopes=("read", "operate:flights"))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    made = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    changes.edit_tenant(made, "acme", lambda _: SPEC, ME)
    yield made
    made.close()


def key(*scopes: str) -> KeySpec:
    found = new_key(created=CREATED)[1]
    return found.model_copy(update={"scopes": scopes}) if scopes else found


def problem(records: CatalogRecords, change: Change) -> str:
    """What control says of it; "": it takes it."""
    try:
        check_writes(change, records)
    except RecordInvalidError as error:
        return error.problem
    return ""


def test_what_commands_write_is_taken(records: CatalogRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    make, mine = records.change, key("operate:flights")
    monkeypatch.setattr(records, "change", lambda change: make(change, check_writes))
    changes.edit_tenant(records, "new", lambda _: TenantSpec(), ME)
    changes.add_key(records, "newer", key(), lambda _: TenantSpec(), ME)
    changes.add_key(records, "acme", mine, lambda spec: spec or SPEC, ME)
    changes.add_key(records, "acme", key(), lambda spec: spec or SPEC, ME)
    changes.revoke_key(records, "acme", mine.id, ME)
    changes.remove_tenant(records, "acme", ME)
    assert sorted(changes.read(records).tenants) == ["new", "newer"]


def test_a_tenant_is_removed_with_all_its_keys(records: CatalogRecords) -> None:
    first, second = key(), key()
    for each in (first, second):
        changes.add_key(records, "acme", each, lambda _: SPEC, ME)
    changes.add_key(records, "acme2", key(), lambda spec: spec or SPEC, ME)
    gone = Write(TENANT, "acme", None, 3), Write(KEY, f"acme/{first.id}", None)
    assert f"it has the key acme/{second.id}" in problem(records, ME.change("tenant.remove", "acme", *gone))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (Write(TENANT, "acme", b"{}"), "say which version"),
        (Write(TENANT, "acme", None), "say which version"),
        (Write(TENANT, "acme", b"no", 1), "no JSON"),
        (Write(TENANT, "Acme", b"{}", 0), "lower-case"),
        (Write(TENANT, "acme", b'{"priority": 0}', 1), "priority"),
        (Write(TENANT, "acme", b'{"keys": []}', 1), "keys"),
        (Write(KEY, "acme/1", b'{"hash": "1"}'), "hash"),
        (Write(KEY, "acme", json.dumps({"hash": key().hash}).encode()), "key ''"),
        (Write(KEY, "nobody/1", json.dumps({"hash": key().hash}).encode()), "no tenant nobody"),
        (
            Write(KEY, "acme/1", json.dumps({"hash": key().hash, "scopes": ["predict", "read"]}).encode()),
            "may not predict",
        ),
        (
            Write(KEY, "acme/1", json.dumps({"hash": key().hash, "scopes": ["operate"]}).encode()),
            "may not operate",
        ),
    ],
)
def test_what_is_wrong_is_refused(records: CatalogRecords, write: Write, said: str) -> None:
    assert said in problem(records, ME.change("x", "y", write))


def test_no_key_is_left_to_a_tenant_that_goes(records: CatalogRecords) -> None:
    added = Write(KEY, "acme/1", json.dumps({"hash": key().hash}).encode(), 0)
    gone = Write(TENANT, "acme", None, 1)
    assert "no tenant acme" in problem(records, ME.change("x", "y", gone, added))
