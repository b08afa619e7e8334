"""tritonclient's calls of the model repository, in a process of its own.

usage: triton_repository.py grpc|http TARGET CA_FILE KEY STEP…    a STEP: index, ready, load MODEL, unload MODEL

Prints one JSON value a step: what the index lists ([name, version, state]), null for what was done, the error's status and
text for what was refused.
"""

import json
import sys
from typing import Any

import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

protocol, target, ca_file, key, *steps = sys.argv[1:]
headers = {"authorization": f"Bearer {key}"}
client: Any
if protocol == "grpc":
    client = over_grpc.InferenceServerClient(target, ssl=True, root_certificates=ca_file)
else:
    client = over_http.InferenceServerClient(target)


def indexed() -> list[list[str]]:
    if protocol == "grpc":
        index = client.get_model_repository_index(headers=headers).models
        return [[m.name, m.version, m.state] for m in index]
    return [[m["name"], m["version"], m["state"]] for m in client.get_model_repository_index(headers=headers)]


def done(step: str) -> object:
    verb, _, model = step.partition(" ")
    if verb == "index":
        return indexed()
    if verb == "load":
        client.load_model(model, headers=headers)
    else:
        client.unload_model(model, headers=headers)
    return None


for step in steps:
    try:
        print(json.dumps(done(step)))
    except InferenceServerException as error:
        print(json.dumps({"status": error.status(), "message": error.message()}))
