"""Our Open Inference Protocol has the names and numbers of tritonclient's, which lives in an environment of its own."""

import json
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from headrace.oip import open_inference_pb2 as ours

CLIENTS = Path(__file__).parents[2] / ".venv" / "clients" / "bin" / "python"
DUMP = """
import json
from tritonclient.grpc import model_config_pb2, service_pb2
def fields(m):
    out = {m.full_name: {f.name: [f.number, f.type, f.is_repeated] for f in m.fields}}
    for n in m.nested_types: out |= fields(n)
    return out
messages = {}
for file in (service_pb2, model_config_pb2):
    for m in file.DESCRIPTOR.message_types_by_name.values(): messages |= fields(m)
enums = {e.full_name: {v.name: v.number for v in e.values} for e in model_config_pb2.DESCRIPTOR.enum_types_by_name.values()}
service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
methods = {
    m.name: [m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming]
    for m in service.methods
}
print(json.dumps([messages, enums, methods]))
"""


def fields(message: Descriptor) -> dict[str, dict[str, list[object]]]:
    found: dict[str, dict[str, list[object]]] = {
        message.full_name: {f.name: [f.number, f.type, f.is_repeated] for f in message.fields}
    }
    for nested in message.nested_types:
        found |= fields(nested)
    return found


@pytest.mark.skipif(
    not CLIENTS.exists(), reason="`make test` installs other people's clients into .venv/clients"
)
def test_names_and_numbers_are_the_protocols() -> None:
    done = subprocess.run([str(CLIENTS), "-c", DUMP], capture_output=True, text=True, check=True, timeout=60)
    messages, enums, methods = json.loads(done.stdout)
    checked = 0
    for message in ours.DESCRIPTOR.message_types_by_name.values():
        for name, own in fields(message).items():
            theirs = messages[name]
            assert {n: theirs.get(n) for n in own} == own, name
            checked += len(own)
    assert checked > 140
    for enum in ours.DESCRIPTOR.enum_types_by_name.values():
        assert enums[enum.full_name] == {v.name: v.number for v in enum.values}
    for method in ours.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        signature = [
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        ]
        assert methods[method.name] == signature
