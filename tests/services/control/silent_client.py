"""A process that asks many times what is live, says "asked", and does nothing more: `python silent_client.py TARGET REQUEST` (the
request in hexadecimal)."""

import sys
import time
from typing import Any

import grpc

CALLS = 50

if __name__ == "__main__":
    channel = grpc.insecure_channel(sys.argv[1])
    grpc.channel_ready_future(channel).result()
    watch: Any = channel.unary_unary("/headrace.api.control.v1.ResourcesService/Watch")
    calls = [watch.future(bytes.fromhex(sys.argv[2]), timeout=3600) for _ in range(CALLS)]
    print("asked", flush=True)
    time.sleep(3600)
