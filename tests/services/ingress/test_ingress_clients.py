"""What the door asks of routers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.api.router.v1 import router_pb2 as pb
from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from services.ingress.clients import HopServing
from tests.services.ingress.ingress_door import FakeRouter, definition


@dataclass
class Router(FakeRouter):
    """Serves these revisions; None: it can't say."""

    serves: Mapping[str, str] | None = field(default_factory=dict)

    async def ListPipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
        if self.serves is None:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "it starts")
        found = [pb.PipelineVersion(name=name, revision=revision) for name, revision in self.serves.items()]
        return pb.ListPipelinesResponse(pipelines=found)


async def test_a_revision_is_served_once_all_routers_that_answer_serve_it() -> None:
    one, other = Router(serves={"p": "new", "q": "1"}), Router(serves={"p": "old", "q": "1"})
    async with served(definition(one)) as first, served(definition(other)) as second:
        client = first.client(target=f"{first.target},{second.target}")
        serving = HopServing(client, time.monotonic)
        assert await serving() == {"q": "1"}
        other.serves = {"p": "new", "q": "1"}
        assert await serving() == {"p": "new", "q": "1"}
        other.serves = None
        assert await serving() == {"p": "new", "q": "1"}
        one.serves = None
        assert await serving() == {}
