"""A server that answers as a test says, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from headrace.client import AsyncHeadrace
from headrace.hop.testing import Harness, served
from tests.libs.client.client_server import Inference, definition


@pytest.fixture
def inference() -> Inference:
    return Inference()


@pytest.fixture
async def server(inference: Inference) -> AsyncIterator[Harness]:
    async with served(definition(inference)) as harness:
        yield harness


@pytest.fixture
async def client(server: Harness) -> AsyncIterator[AsyncHeadrace]:
    async with AsyncHeadrace(server.target, key="secret") as made:
        yield made
