"""How a door makes its directory of what is live, and what a change costs those whom it does not concern."""

import json

from headrace.access.records import KEY, TENANT, key_content, tenant_content
from headrace.access.specs import KeySpec, QuotaSpec, TenantSpec, key_digest, new_key
from headrace.catalog.access import Position
from headrace.resources.apply import View
from headrace.resources.snapshot import Resource, Snapshot
from services.ingress.auth.directory import Directory, DirectoryBuilder, LiveDirectory
from tests.live_access import CREATED
from tests.services.monitoring.monitoring_outcomes import Log

ANYTHING = TenantSpec(pipelines=("*",))


def tenant(name: str, spec: TenantSpec = ANYTHING) -> Resource:
    return Resource.of(TENANT, name, tenant_content(spec))


def key(name: str, spec: KeySpec) -> Resource:
    return Resource.of(KEY, f"{name}/{spec.id}", key_content(spec))


def view(*resources: Resource) -> View:
    snapshot = Snapshot.of(resources)
    return View(Position(1, 1, bytes(32)), snapshot, state=snapshot.digest().hex())


def built(*resources: Resource) -> Directory:
    return DirectoryBuilder(lambda _: None).build(view(*resources).snapshot.resources)


def test_a_key_may_do_what_it_and_its_tenant_may() -> None:
    text, mine = new_key(created=CREATED, expires=CREATED)
    narrow = mine.model_copy(update={"scopes": ("read", "operate:a")})
    spec = TenantSpec(pipelines=("flights",), scopes=("read", "predict"), priority=7, regulated=True)
    found = built(tenant("acme", spec), key("acme", narrow))
    credential = found.keys[key_digest(text.encode())]
    assert (credential.key_id, credential.scopes) == (mine.id, frozenset({"read"}))
    assert credential.expires == CREATED.timestamp()
    assert credential.tenant == found.tenants["acme"]
    assert (credential.tenant.priority, credential.tenant.regulated) == (7, True)
    assert not credential.tenant.may_use("other")
    assert found.scopes == {"acme": frozenset({"read", "predict"})}


def test_keys_of_nobody_and_the_second_of_two_equal_ones_open_nothing() -> None:
    (text, mine), (lost_text, lost) = new_key(created=CREATED), new_key(created=CREATED)
    twin = Resource.of(KEY, "zeta/twin", json.dumps({"hash": mine.hash}).encode())
    found = built(tenant("acme"), tenant("zeta"), twin, key("acme", mine), key("gone", lost))
    assert found.keys[key_digest(text.encode())].tenant.name == "acme"
    assert key_digest(lost_text.encode()) not in found.keys
    assert len(found.keys) == 1


def test_what_can_not_be_read_is_left_out() -> None:
    _, mine = new_key(created=CREATED)
    found = built(
        tenant("acme"), Resource.of(TENANT, "bad", b"{"), key("bad", mine), Resource.of(KEY, "acme/1", b"[]")
    )
    assert (set(found.tenants), found.keys) == ({"acme"}, {})


def test_a_change_leaves_the_others_as_they_are() -> None:
    builder, (_, one), (_, two) = DirectoryBuilder(print), new_key(created=CREATED), new_key(created=CREATED)
    others = (tenant("b"), key("b", two))
    before = builder.build(view(tenant("a"), key("a", one), *others).snapshot.resources)
    faster = tenant("a", TenantSpec(limits=QuotaSpec(rows_per_s=1)))
    after = builder.build(view(faster, key("a", one), *others).snapshot.resources)
    assert after.tenants["b"] is before.tenants["b"]
    mine, theirs = ({c.key_id: c for c in d.keys.values()} for d in (after, before))
    assert mine[two.id] is theirs[two.id]
    assert mine[one.id].tenant is after.tenants["a"]
    assert after.tenants["a"].limits.rows_per_s == 1


def test_what_is_broken_stays_as_it_was_is_logged_once_and_counted() -> None:
    log, gauge = Log(), list[float]()
    live = LiveDirectory(log, gauge.append)
    (text, mine), (_, other) = new_key(created=CREATED), new_key(created=CREATED)
    live.take(view(tenant("acme"), tenant("b"), key("acme", mine)))
    bad = (Resource.of(TENANT, "acme", b'{"priority": 99}'), Resource.of(KEY, f"acme/{mine.id}", b"{}"))
    for priority in (2, 3):
        live.take(view(*bad, tenant("b", TenantSpec(priority=priority)), key("b", other)))
        directory = live.directory
        assert directory.tenants["acme"].may_use("flights")
        assert directory.keys[key_digest(text.encode())].tenant is directory.tenants["acme"]
        assert directory.tenants["b"].priority == priority
    assert [about["error"].partition(":")[0] for _, about in log.lines] == [
        "tenant acme",
        f"key acme/{mine.id}",
    ]
    live.take(view(tenant("acme", TenantSpec(priority=5)), bad[1]))
    directory = live.directory
    # What the tenant may changes for the key, too.
    assert directory.keys[key_digest(text.encode())].tenant.priority == 5
    live.take(view(tenant("acme")))
    assert live.directory.keys == {}
    assert gauge == [0.0, 1.0, 1.0, 1.0, 0.0]
