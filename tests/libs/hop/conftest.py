"""The service of `hop_echo`, served on a socket."""

from collections.abc import AsyncIterator

import pytest

from headrace.hop import testing
from tests.libs.hop.hop_echo import EchoServicer, definition


@pytest.fixture
def servicer() -> EchoServicer:
    return EchoServicer()


@pytest.fixture
async def served(servicer: EchoServicer) -> AsyncIterator[testing.Harness]:
    async with testing.served(definition(servicer)) as harness:
        yield harness
