"""The least that an RPC can cost in Python: grpc.aio with a handler that always returns the same bytes.

usage: python -m load.micro.features.empty_handler SOCKET BYTES

Without hop's layers, without a message parsed or made; gRPC's core, loop and collector are as hop sets them.
"""

from __future__ import annotations

import sys
from typing import Any

from headrace.hop.process import grpc_core

grpc_core.settle()  # before grpc is imported

import grpc  # noqa: E402 - as above
import uvloop  # noqa: E402 - as above


async def serve(socket: str, size: int) -> None:
    """Answers until the process is ended."""
    reply = bytes(size)

    async def behaviour(_raw: bytes, _context: Any) -> bytes:
        return reply

    class Anything(grpc.GenericRpcHandler):
        def service(self, _details: object) -> Any:
            return grpc.unary_unary_rpc_method_handler(behaviour)

    server = grpc.aio.server(handlers=[Anything()])  # noqa: TID251 - what is measured is grpc without hop
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    grpc_core.freeze()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
