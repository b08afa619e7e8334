"""KServe's client over REST or gRPC, in a process of its own. usage: kserve_client.py grpc|http TARGET CA_FILE KEY ROWS_JSON"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)

protocol, target, ca_file, key, rows = *sys.argv[1:5], json.loads(sys.argv[5])
headers = {"authorization": f"Bearer {key}"}


def request(row: dict[str, str | int]) -> InferRequest:
    """One row. BYTES go as bytes over gRPC and as text in JSON: the client sends what it is given."""
    inputs = []
    for name, value in row.items():
        text = isinstance(value, str)
        data = [value.encode()] if text and protocol == "grpc" else [value]
        inputs.append(InferInput(name, [1, 1], "BYTES" if text else "INT32", data))
    return InferRequest("flights", inputs, request_id="kserve-1")


async def over_rest() -> list[float]:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(target, headers)
    assert await client.is_server_ready(target, headers)
    assert await client.is_model_ready(target, "flights", headers)
    answers = [await client.infer(target, request(row), "flights", headers) for row in rows]
    await client.close()
    return [probability(answer) for answer in answers]


async def over_grpc() -> list[float]:
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
    client = InferenceGRPCClient(target, creds=credentials)
    metadata = tuple(headers.items())
    assert await client.is_server_live(headers=metadata)
    assert await client.is_server_ready(headers=metadata)
    assert await client.is_model_ready("flights", headers=metadata)
    answers = [await client.infer(request(row), headers=metadata) for row in rows]
    await client.close()
    return [probability(answer) for answer in answers]


def probability(answer: InferResponse) -> float:
    assert answer.model_name == "flights"
    assert answer.id == "kserve-1"
    found = {output.name: output.as_numpy() for output in answer.outputs}
    assert set(found) == {"delayed", "probability"}
    return float(found["probability"].ravel()[0])


probabilities = asyncio.run(over_grpc() if protocol == "grpc" else over_rest())
print(json.dumps({"model_name": "flights", "probabilities": probabilities}))
