"""A caller as gRPC makes it by default, but for keepalive as our SDK has it: `python -m tests.machines.caller`, with what to do
as JSON on its standard input.

Several channels, each a connection of its own, call in turn at a fixed rate, whatever becomes of earlier calls. A call has a
deadline and no retry. One line of JSON is printed for each call: when it began (monotonic seconds, as all processes of a host
share them), how long it took, its status, and through which channel it went.
"""

import asyncio
import json
import sys
import time

import grpc.aio

from headrace.api.inference.v1 import inference_pb2 as pb
from tests.system import PREDICT, row_request

# Without them a caller gives up a silent connection after a quarter of an hour.
KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10.0, 5.0


async def main() -> None:
    """Calls until its standard input ends."""
    told = json.loads(sys.stdin.readline())
    credentials = grpc.ssl_channel_credentials(told["ca"].encode())
    # Else gRPC would give all channels of this process one connection.
    own = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
    ]
    channels = [grpc.aio.secure_channel(told["target"], credentials, own) for _ in range(told["channels"])]
    calls = [
        channel.unary_unary(PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString)
        for channel in channels
    ]
    requests = [row_request(row) for row in told["rows"]]
    metadata = (("authorization", f"Bearer {told['key']}"),)
    going: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        began, status, why = time.monotonic(), "OK", ""
        try:
            answer = await calls[number % len(calls)](
                requests[number % len(requests)], timeout=told["timeout_s"], metadata=metadata
            )
            if answer.predictions[0].HasField("error"):
                status, why = "ROW", str(answer.predictions[0].error)
        except grpc.aio.AioRpcError as error:
            status, why = error.code().name, error.details() or ""
        line = {"at": began, "took": time.monotonic() - began, "status": status, "why": why[:200]}
        print(json.dumps({**line, "channel": number % len(calls)}), flush=True)

    stopped = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    begin, number = time.monotonic(), 0
    while not stopped.done():
        task = asyncio.create_task(one(number))
        going.add(task)
        task.add_done_callback(going.discard)
        number += 1
        await asyncio.sleep(max(begin + number / told["rate"] - time.monotonic(), 0))
    await asyncio.gather(*going)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main())
