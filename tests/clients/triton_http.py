"""tritonclient over REST and its binary extension, a process of its own. usage: triton_http.py TARGET CA_FILE KEY ROWS_JSON"""

import json
import sys

import numpy as np
import tritonclient.http as triton

target, ca_file, key, rows = *sys.argv[1:4], json.loads(sys.argv[4])
client = triton.InferenceServerClient(target)
headers = {"authorization": f"Bearer {key}"}
assert client.is_server_live(headers=headers)
assert client.is_server_ready(headers=headers)
assert client.is_model_ready("flights", headers=headers)
metadata = client.get_model_metadata("flights", headers=headers)
config = client.get_model_config("flights", headers=headers)
assert {i["name"] for i in config["input"]} <= {i["name"] for i in metadata["inputs"]}
assert config["max_batch_size"] > 0


def tensors(row: dict[str, object]) -> list[triton.InferInput]:
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
statistics = client.get_inference_statistics("flights", headers=headers)
assert statistics["model_stats"][0]["inference_count"] >= len(rows)
assert [answer.get_response()["id"] for answer in answers] == [f"triton-{i}" for i in range(len(rows))]
print(
    json.dumps(
        {
            "model_name": answers[0].get_response()["model_name"],
            "probabilities": [float(answer.as_numpy("probability").ravel()[0]) for answer in answers],
        }
    )
)
