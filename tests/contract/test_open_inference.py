"""Our Open Inference Protocol has the names and numbers of tritonclient's, which lives in an environment of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CLIENTS = Path(__file__).parents[2] / ".venv" / "clients" / "bin" / "python"
OURS = "from headrace.oip import open_inference_pb2; files = [open_inference_pb2]"
THEIRS = (
    "from tritonclient.grpc import model_config_pb2, service_pb2; files = [service_pb2, model_config_pb2]"
)
DUMP = """
import json
def fields(m):
    out = {m.full_name: {f.name: [f.number, f.type, f.is_repeated] for f in m.fields}}
    for n in m.nested_types: out |= fields(n)
    return out
messages, enums, methods = {}, {}, {}
for file in (f.DESCRIPTOR for f in files):
    for m in file.message_types_by_name.values(): messages |= fields(m)
    enums |= {e.full_name: {v.name: v.number for v in e.values} for e in file.enum_types_by_name.values()}
    for s in file.services_by_name.values():
        methods |= {
            m.full_name: [m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming]
            for m in s.methods
        }
print(json.dumps([messages, enums, methods]))
"""


def dumped(python: str, files: str) -> Any:
    done = subprocess.run(
        [python, "-c", files + DUMP], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(
    not CLIENTS.exists(), reason="`make test` installs other people's clients into .venv/clients"
)
def test_names_and_numbers_are_the_protocols() -> None:
    (messages, *ours), (their_messages, *theirs) = dumped(sys.executable, OURS), dumped(str(CLIENTS), THEIRS)
    for name, fields in messages.items():
        assert fields.items() <= their_messages[name].items(), name
    assert sum(map(len, messages.values())) > 140
    for own, other in zip(ours, theirs, strict=True):
        assert own
        assert own.items() <= other.items()
