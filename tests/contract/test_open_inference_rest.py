"""The REST door by the Open Inference Protocol's own document: schemathesis sends it what the document allows, and more."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.hop import testing
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, definition, prepare

SCHEMATHESIS = Path(__file__).parents[2] / ".venv" / "clients" / "bin" / "schemathesis"
DOCUMENT = Path(__file__).with_name("open_inference_rest.yaml")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
# Other methods than these Envoy's parser of HTTP/1.1 does not know: it answers 400 by itself.
SETTINGS = 'phases.coverage.unexpected-methods = ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"]\n'
NAMES = {"MODEL_NAME": ["double", "absent"], "MODEL_VERSION": ["3", "9"]}
_VERSION = "/versions/{MODEL_VERSION}"
_EXAMPLE = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        {"name": "n", "datatype": "INT32", "shape": [1, 1], "data": [1]},
    ]
}


def with_this_door() -> dict[str, Any]:
    """The document with the names of this door's models, also without versions, and with refusals of any client error's status.

    It writes `${NAME}` where OpenAPI has `{NAME}`, and names of errors only 400.
    """
    document: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text().replace("${", "{"))
    schema = {"$ref": "#/components/schemas/inference_error_response"}
    error = {"description": "refused", "content": {"application/json": {"schema": schema}}}
    paths: dict[str, Any] = {}
    for path, item in document["paths"].items():
        for parameter in item.get("parameters", ()):
            parameter["schema"] = {"type": "string", "enum": NAMES[parameter["name"]]}
        for operation in (item[method] for method in ("get", "post") if method in item):
            operation["responses"]["4XX"] = error
            if "requestBody" in operation:
                operation["requestBody"]["content"]["application/json"]["example"] = _EXAMPLE
        paths[path] = item
        if _VERSION in path:
            newest = paths[path.replace(_VERSION, "")] = copy.deepcopy(item)
            newest["parameters"] = [p for p in item["parameters"] if p["name"] != "MODEL_VERSION"]
            for operation in (newest[method] for method in ("get", "post") if method in newest):
                operation["operationId"] += "-newest"
    return {**document, "paths": paths}


@pytest.mark.slow
@pytest.mark.skipif(
    not SCHEMATHESIS.exists(), reason="`make test` installs other people's clients into .venv/clients"
)
async def test_answers_are_those_of_the_protocols_document(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    document, settings = tmp_path / "document.yaml", tmp_path / "schemathesis.toml"
    document.write_text(yaml.safe_dump(with_this_door()))
    settings.write_text(SETTINGS)
    async with testing.served(definition(FakeRouter())) as router:
        folder = prepare(tmp_path, router.target)
        door = DoorProcess(folder)
        try:
            await door.ready(folder.grpc)
            command = [str(SCHEMATHESIS), "--config-file", str(settings), "run", str(document)]
            command += ["--url", f"http://{folder.grpc}", "-H", f"x-api-key: {folder.keys.demo}"]
            command += ["--checks", ",".join(CHECKS), "--max-examples", "100", "--seed", "1", "--no-color"]
            run = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path
            )
            async with asyncio.timeout(600):
                output, _ = await run.communicate()
        finally:
            door.kill()
    assert run.returncode == 0, output.decode()[-10_000:]
    assert "Tested: 9" in output.decode()
