"""tritonclient in a process of its own: over gRPC and TLS, or over REST and its binary extension.

usage: triton_client.py grpc|http TARGET CA_FILE KEY ROWS_JSON
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

protocol, target, ca_file, key, rows = *sys.argv[1:5], json.loads(sys.argv[5])
triton: Any = over_grpc if protocol == "grpc" else over_http
secure = {"ssl": True, "root_certificates": ca_file} if protocol == "grpc" else {}
client = triton.InferenceServerClient(target, **secure)
headers = {"authorization": f"Bearer {key}"}
# As REST gives it; integers of 64 bits are text then.
as_json = {"as_json": True} if protocol == "grpc" else {}
assert client.is_server_live(headers=headers)
assert client.is_server_ready(headers=headers)
assert client.is_model_ready("flights", headers=headers)
metadata = client.get_model_metadata("flights", headers=headers, **as_json)
answered = client.get_model_config("flights", headers=headers, **as_json)
config = answered["config"] if protocol == "grpc" else answered
assert {i["name"] for i in config["input"]} <= {i["name"] for i in metadata["inputs"]}
assert config["max_batch_size"] > 0


def tensors(row: dict[str, object]) -> list[Any]:
    made = []
    for described in metadata["inputs"]:
        value = row.get(described["name"])
        is_text = described["datatype"] == "BYTES"
        array = np.array([[str(value).encode()]], object) if is_text else np.array([[value]], np.int32)
        tensor = triton.InferInput(described["name"], [1, 1], described["datatype"])
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


answers = [
    client.infer("flights", tensors(row), headers=headers, request_id=f"triton-{i}")
    for i, row in enumerate(rows)
]
statistics = client.get_inference_statistics("flights", headers=headers, **as_json)
assert int(statistics["model_stats"][0]["inference_count"]) >= len(rows)
responses = [answer.get_response(**as_json) for answer in answers]
assert [response["id"] for response in responses] == [f"triton-{i}" for i in range(len(rows))]
probabilities = [float(answer.as_numpy("probability").ravel()[0]) for answer in answers]
print(json.dumps({"model_name": responses[0]["model_name"], "probabilities": probabilities}))
