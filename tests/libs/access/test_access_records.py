"""Tenants and keys in a real database: what commands at once, broken records and removals leave."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.access import changes
from headrace.access.records import KEY, TENANT, Access, AccessError, By, key_of, tenant_of
from headrace.access.specs import NEW_LIMITS, KeySpec, QuotaSpec, TenantSpec, new_key
from headrace.catalog.access import Change, Made, Records
from headrace.catalog.errors import RecordInvalidError
from headrace.catalog.records import CatalogRecords, Check

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = By("ann", "they asked")
SPEC = TenantSpec(
    pipelines=("flights",), scopes=("read", "operate:flights"), limits=NEW_LIMITS, priority=3, regulated=True
)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    made = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    yield made
    made.close()


def same(spec: TenantSpec | None) -> TenantSpec:
    return spec or SPEC


def fresh() -> KeySpec:
    return new_key(created=NOW, expires=NOW)[1].model_copy(update={"scopes": ("read",)})


def lines(records: Records) -> list[dict[str, str]]:
    return [json.loads(line.line) for line in records.lines()][1:]


def test_what_is_written_is_read_and_the_audit_says_who_and_why(records: CatalogRecords) -> None:
    key = fresh()
    changes.edit_tenant(records, "acme", lambda _: TenantSpec(priority=9), ME)
    assert changes.edit_tenant(records, "acme", lambda _: SPEC, ME) == SPEC
    assert changes.add_key(records, "acme", key, same, ME) == SPEC
    assert changes.read(records) == Access({"acme": SPEC}, {"acme": {key.id: key}})
    changes.revoke_key(records, "acme", key.id, ME)
    assert changes.read(records).keys == {"acme": {}}
    changes.remove_tenant(records, "acme", ME)
    assert changes.read(records) == Access()
    told = [(line["action"], line["subject"], line["actor"], line["reason"]) for line in lines(records)[1:]]
    name = f"acme/{key.id}"
    actions = (("tenant.set", "acme"), ("key.add", name), ("key.revoke", name), ("tenant.remove", "acme"))
    assert told == [(*action, "ann", "they asked") for action in actions]


def test_no_record_holds_the_key(records: CatalogRecords) -> None:
    text, key = new_key(created=NOW)
    changes.add_key(records, "acme", key, same, ME)
    stored = b"".join(r.content or b"" for kind in (TENANT, KEY) for r in records.list(kind))
    stored += b"".join(line.line for line in records.lines())
    assert text.encode() not in stored
    assert text.rpartition("_")[2].encode() not in stored


def test_changes_at_once_lose_nothing(records: CatalogRecords) -> None:
    old = [fresh() for _ in range(10)]
    for key in old:
        changes.add_key(records, "acme", key, same, ME)

    def raise_rate(_: int) -> None:
        def edit(spec: TenantSpec | None) -> TenantSpec:
            rate = (spec.limits.rows_per_s or 0) + 1
            return spec.model_copy(update={"limits": QuotaSpec(rows_per_s=rate)})

        changes.edit_tenant(records, "acme", edit, ME)

    raise_rate(0)
    new = [fresh() for _ in range(10)]
    with ThreadPoolExecutor(8) as pool:
        done: list[Future[Any]] = [
            *(pool.submit(raise_rate, i) for i in range(10)),
            *(pool.submit(changes.add_key, records, "acme", key, same, ME) for key in new),
            *(pool.submit(changes.revoke_key, records, "acme", key.id, ME) for key in old),
        ]
    for future in done:
        future.result()
    access = changes.read(records)
    assert access.tenants["acme"].limits.rows_per_s == (NEW_LIMITS.rows_per_s or 0) + 11
    assert set(access.keys["acme"]) == {key.id for key in new}


class Between(CatalogRecords):
    """Before the first change something else is done."""

    def __init__(self, records: CatalogRecords) -> None:
        super().__init__(records.database)
        self.first: Callable[[], object] = lambda: None

    def change(self, change: Change, check: Check | None = None) -> Made:
        first, self.first = self.first, lambda: None
        first()
        return super().change(change, check)


def test_a_key_that_is_added_while_its_tenant_is_removed_is_not_left(records: CatalogRecords) -> None:
    between, key = Between(records), fresh()
    changes.add_key(records, "acme", fresh(), same, ME)
    between.first = lambda: changes.add_key(records, "acme", key, same, ME)
    changes.remove_tenant(between, "acme", ME)
    assert records.list(KEY) == records.list(TENANT) == []

    def known(spec: TenantSpec | None) -> TenantSpec:
        if spec is None:
            raise AccessError("no tenant")
        return spec

    changes.edit_tenant(records, "acme", same, ME)
    between.first = lambda: changes.remove_tenant(records, "acme", ME)
    with pytest.raises(AccessError, match="no tenant"):
        changes.add_key(between, "acme", fresh(), known, ME)
    assert records.list(KEY) == []


def test_what_is_not_there_names_what_there_is(records: CatalogRecords) -> None:
    with pytest.raises(AccessError, match="there are: none yet"):
        changes.remove_tenant(records, "acme", ME)
    key = fresh()
    changes.add_key(records, "acme", key, same, ME)
    with pytest.raises(AccessError, match="there are: acme"):
        changes.revoke_key(records, "other", "x", ME)
    with pytest.raises(AccessError, match=f"no key 'x'; its keys: {key.id}"):
        changes.revoke_key(records, "acme", "x", ME)
    with pytest.raises(AccessError, match="tenant 'Acme': use lower-case letters"):
        changes.edit_tenant(records, "Acme", same, ME)
    with pytest.raises(AccessError, match="has, or had, a key"):
        changes.add_key(records, "acme", key, same, ME)
    assert len(lines(records)) == 1


def test_a_broken_record_is_a_problem_of_its_own() -> None:
    good = fresh()
    twin = {"hash": good.hash}
    wrong = {"bad": b'{"prio": 1}', "worse": b"\xff", "Upper": b"{}", "deep": b"[" * 99_999}
    access = Access.of(
        [("acme", b"{}"), *wrong.items()],
        [
            (f"acme/{good.id}", json.dumps({"hash": good.hash}).encode()),
            ("acme/twin", json.dumps(twin).encode()),
            ("acme/zz", b'{"hash": "zz"}'),
            ("acme/own", json.dumps({**twin, "id": "own"}).encode()),
            ("bad/key", json.dumps({"hash": "sha256:" + "0" * 64}).encode()),
            ("acme", b"{}"),
            ("acme/a/b", json.dumps(twin).encode()),
        ],
    )
    assert access.tenants == {"acme": TenantSpec()}
    assert access.keys == {"acme": {good.id: KeySpec(id=good.id, hash=good.hash)}}
    about = [problem.partition(":")[0] for problem in access.problems]
    assert about == [
        *(f"tenant {name}" for name in wrong),
        "key acme/twin",
        "key acme/zz",
        "key acme/own",
        "key acme",
        "key acme/a/b",
    ]
    assert "prio: Extra inputs are not permitted" in access.problems[0]
    assert not any(good.hash in problem for problem in access.problems)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'{"priority": 11}', b'{"scopes": ["all"]}'])
def test_contents_that_are_no_tenant_are_refused(content: bytes) -> None:
    with pytest.raises(RecordInvalidError):
        tenant_of("acme", content)
    with pytest.raises(RecordInvalidError):
        key_of("acme/1", content)
