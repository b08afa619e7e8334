"""The REST door by the Open Inference Protocol: schemathesis sends it what a description of the protocol allows, and more."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from headrace.hop import testing
from tests.children import ends_with_tests
from tests.services.ingress.ingress_door import DoorProcess, FakeRouter, definition, prepare

SCHEMATHESIS = Path(__file__).parents[2] / ".venv" / "clients" / "bin" / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
# Other methods than these Envoy's parser of HTTP/1.1 does not know: it answers 400 by itself.
SETTINGS = 'phases.coverage.unexpected-methods = ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"]\n'
NAMES = {"model": ["double", "absent"], "version": ["3", "9"]}
_TEXT: dict[str, Any] = {"type": "string"}
_FREE: dict[str, Any] = {"type": "object"}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_EXAMPLE = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
        {"name": "n", "datatype": "INT32", "shape": [1, 1], "data": [1]},
    ]
}


def schema(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": required | optional}


def tensors(**more: Any) -> dict[str, Any]:
    one = schema({"name": _TEXT, "datatype": _TEXT, "shape": _SHAPE, **more}, parameters=_FREE)
    return {"type": "array", "items": one}


def content(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": body, **more}}}


def operation(reply: dict[str, Any] | None) -> dict[str, Any]:
    """`reply`: the schema of an answer; None: the protocol names no body."""
    answer = {"description": "answered", **(content(reply) if reply else {})}
    refusal = {"description": "refused", **content(schema({"error": _TEXT}))}
    return {"responses": {"200": answer, "4XX": refusal}}


def description() -> dict[str, Any]:
    """OpenAPI of the protocol's inference API, version 2: this door's models, each with and without a version."""
    outputs = {"type": "array", "items": schema({"name": _TEXT}, parameters=_FREE)}
    request = schema({"inputs": tensors(data={"type": "array"})}, id=_TEXT, parameters=_FREE, outputs=outputs)
    reply = schema({"model_name": _TEXT, "outputs": tensors(data={"type": "array"})}, model_version=_TEXT)
    server = schema({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}})
    model = schema({"name": _TEXT, "platform": _TEXT, "inputs": tensors(), "outputs": tensors()})
    paths: dict[str, Any] = {
        "/v2": {"get": operation(server)},
        "/v2/health/live": {"get": operation(None)},
        "/v2/health/ready": {"get": operation(None)},
    }
    for base, names in (("{model}", ["model"]), ("{model}/versions/{version}", ["model", "version"])):
        at = f"/v2/models/{base}"
        infer = operation(reply) | {"requestBody": {"required": True, **content(request, example=_EXAMPLE)}}
        given = [
            {"name": n, "in": "path", "required": True, "schema": {**_TEXT, "enum": NAMES[n]}} for n in names
        ]
        paths[at] = {"parameters": given, "get": operation(model)}
        paths[f"{at}/ready"] = {"parameters": given, "get": operation(None)}
        paths[f"{at}/infer"] = {"parameters": given, "post": infer}
    return {"openapi": "3.1.0", "info": {"title": "Open Inference Protocol", "version": "2"}, "paths": paths}


@pytest.mark.slow
@pytest.mark.skipif(
    not SCHEMATHESIS.exists(), reason="`make test` installs other people's clients into .venv/clients"
)
async def test_answers_are_those_of_the_protocol(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    document, settings = tmp_path / "document.json", tmp_path / "schemathesis.toml"
    document.write_text(json.dumps(description()))
    settings.write_text(SETTINGS)
    async with testing.served(definition(FakeRouter())) as router:
        folder = prepare(tmp_path, router.target)
        door = DoorProcess(folder)
        try:
            await door.ready(folder.grpc)
            command = ends_with_tests(str(SCHEMATHESIS), "--config-file", str(settings), "run", str(document))
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
