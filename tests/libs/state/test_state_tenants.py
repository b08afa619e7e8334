"""The tenants file: what it refuses, that keys are kept as keyed hashes, and that a save is read back."""

import hashlib
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.hop.config import ConfigError
from headrace.state import tenants

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_saved_file_is_read_back_equal_and_private(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    text, key = tenants.new_key(created=NOW)
    file = tenants.TenantsFile().with_tenant("demo", tenants.TenantSpec(pipelines=("*",)))
    file = file.with_key("demo", key)

    tenants.save(path, file)

    assert tenants.load(path) == file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert text not in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["tenants.yaml"]


def test_a_key_is_stored_as_its_sha256() -> None:
    text, kept = tenants.new_key(created=NOW)
    digest = hashlib.sha256(text.encode())
    assert kept.hash == f"sha256:{digest.hexdigest()}" == tenants.hash_key(text)
    assert tenants.digest_of(kept) == tenants.key_digest(text.encode()) == digest.digest()


def test_revoking_removes_that_key_only() -> None:
    (_, first), (_, second) = (tenants.new_key(created=NOW) for _ in range(2))
    file = tenants.TenantsFile().with_tenant("demo", tenants.TenantSpec(keys=(first, second)))

    assert file.without_key("demo", first.id).tenants["demo"].keys == (second,)
    with pytest.raises(ConfigError, match="no key 'nope'"):
        file.without_key("demo", "nope")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tenants: {Demo: {}}", "tenant 'Demo'"),
        ("tenants: {demo: {keys: [{id: a, hash: zz}]}}", "tenants.demo.keys.0.hash"),
        ("tenants: {demo: {limits: {rate_per_s: 0}}}", "tenants.demo.limits.rate_per_s"),
        ("tenants: {demo: {pipeline: [x]}}", "tenants.demo.pipeline"),
        ("tenants: [", "cannot read tenants"),
    ],
)
def test_a_wrong_file_is_refused_and_the_key_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        tenants.load(path)


def test_an_unknown_tenant_names_the_known_ones() -> None:
    file = tenants.TenantsFile().with_tenant("demo", tenants.TenantSpec())
    with pytest.raises(ConfigError, match="there are: demo"):
        file.tenant("other")


SCOPE_SETS = st.sets(st.sampled_from(["read", "operate", "operate:a", "operate:b"]))


@given(SCOPE_SETS, SCOPE_SETS)
def test_a_key_may_do_what_both_its_tenant_and_it_may(own: set[str], wanted: set[str]) -> None:
    def may(scopes: Iterable[str], scope: str) -> bool:
        return scope in scopes or (scope.startswith("operate:") and "operate" in scopes)

    both = tenants.narrowed(own, wanted)
    for scope in ("read", "operate", "operate:a", "operate:b", "operate:c"):
        assert may(both, scope) == (may(own, scope) and may(wanted, scope))


@pytest.mark.parametrize("scope", ["", "operate:", "operate:a b", "operate:../x", "read:flights", "Operate"])
def test_scopes_that_are_none_are_refused(scope: str) -> None:
    assert tenants.check_scope("operate:flights-2") == "operate:flights-2"
    with pytest.raises(ValueError, match="operate:PIPELINE"):
        tenants.check_scope(scope)
    with pytest.raises(ValidationError):
        tenants.TenantSpec(scopes=(scope,))
