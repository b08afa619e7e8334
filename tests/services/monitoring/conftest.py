"""The database `facts` of both kinds, each test with its own."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.store import OutcomeStore
from tests.libs.catalog.conftest import address, one_database, postgres_address, postgres_server
from tests.services.monitoring.monitoring_outcomes import facts_at

__all__ = ["address", "one_database", "postgres_address", "postgres_server"]


@pytest.fixture
def facts(address: str) -> Iterator[Facts]:
    with closing(facts_at(address)) as found:
        yield found


@pytest.fixture
def store(facts: Facts) -> OutcomeStore:
    return OutcomeStore(facts)
