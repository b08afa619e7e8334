"""What a tenant may do, and what is stored of its keys."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.access import specs

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_key_is_stored_as_its_sha256() -> None:
    text, kept = specs.new_key(created=NOW)
    digest = hashlib.sha256(text.encode())
    assert kept.hash == f"sha256:{digest.hexdigest()}" == specs.hash_key(text)
    assert specs.digest_of(kept) == specs.key_digest(text.encode()) == digest.digest()


SCOPE_SETS = st.sets(st.sampled_from(["read", "operate", "operate:a", "operate:b"]))


@given(SCOPE_SETS, SCOPE_SETS)
def test_a_key_may_do_what_both_its_tenant_and_it_may(own: set[str], wanted: set[str]) -> None:
    def may(scopes: Iterable[str], scope: str) -> bool:
        return scope in scopes or (scope.startswith("operate:") and "operate" in scopes)

    both = specs.narrowed(own, wanted)
    for scope in ("read", "operate", "operate:a", "operate:b", "operate:c"):
        assert may(both, scope) == (may(own, scope) and may(wanted, scope))


@pytest.mark.parametrize("scope", ["", "operate:", "operate:a b", "operate:../x", "read:flights", "Operate"])
def test_scopes_that_are_none_are_refused(scope: str) -> None:
    assert specs.check_scope("operate:flights-2") == "operate:flights-2"
    with pytest.raises(ValueError, match="operate:PIPELINE"):
        specs.check_scope(scope)
    with pytest.raises(ValidationError):
        specs.TenantSpec(scopes=(scope,))
