"""What nobody serves: unknown services, methods and paths, and methods of HTTP that a path does not have."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request

import pytest

from tests.services.ingress.ingress_calls import OIP, PREDICT, http
from tests.services.ingress.ingress_door import Folder

pytestmark = pytest.mark.asyncio(loop_scope="session")
UNKNOWN = ["/no.such.Service/Do", OIP + "NoSuchMethod", "/grpc.health.v1.Health/Guess"]


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web"])
async def test_an_unknown_method_is_unimplemented_in_grpc(door: Folder, path: str, kind: str) -> None:
    command = [
        "curl",
        "-s",
        "-i",
        "--http2-prior-knowledge",
        f"http://{door.grpc}{path}",
        "--data-binary",
        "@-",
    ]
    command += ["-H", f"content-type: {kind}", "-H", "te: trailers"]
    done = await asyncio.to_thread(
        subprocess.run, command, input=b"\0\0\0\0\0", capture_output=True, timeout=60, check=True
    )
    answer = done.stdout.decode().replace("\r", "")
    assert answer.startswith("HTTP/2 200")
    assert "\ngrpc-status: 12\n" in answer
    assert f"\ncontent-type: {kind.removesuffix('+proto')}" in answer


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("kind", ["application/json", "application/proto"])
async def test_an_unknown_method_is_unimplemented_in_connect(door: Folder, path: str, kind: str) -> None:
    status, headers, content = await http(door, path, b"", f"content-type: {kind}")
    error = json.loads(content)
    assert (status, error["code"], headers["content-type"]) == (501, "unimplemented", "application/json")
    assert error["details"][0]["debug"]["reason"] == "METHOD_UNKNOWN"


async def test_what_is_no_call_is_not_found(door: Folder) -> None:
    assert (await http(door, "/favicon.ico"))[0] == 404
    assert (await http(door, "/form", b"a=b"))[0] == 404


def requested(door: Folder, method: str, path: str) -> tuple[int, str | None, bytes]:
    """Status, `Allow` and body."""
    request = urllib.request.Request(f"http://{door.grpc}{path}", method=method)
    request.add_header("authorization", f"Bearer {door.keys.demo}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["allow"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["allow"], error.read()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("PUT", "/v2/models/double", "GET, HEAD"),
        ("DELETE", "/v2/models/double/ready", "GET, HEAD"),
        ("GET", "/v2/models/double/infer", "POST"),
        ("HEAD", "/v2/models/double/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("GET", PREDICT, "POST"),
    ],
)
async def test_the_answer_to_an_unknown_method_names_the_allowed_ones(
    door: Folder, method: str, path: str, allow: str
) -> None:
    assert (await asyncio.to_thread(requested, door, method, path))[:2] == (405, allow)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/ready", "/v2/models/double", "/v2/models/missing"])
async def test_head_is_answered_as_get_without_the_body(door: Folder, path: str) -> None:
    status, _, body = await asyncio.to_thread(requested, door, "GET", path)
    assert body
    assert await asyncio.to_thread(requested, door, "HEAD", path) == (status, None, b"")


async def test_the_statistics_of_all_models_are_no_model_of_that_name(door: Folder) -> None:
    status, _, content = await http(door, "/v2/models/stats")
    assert status == 200, content
    assert "double" in [model["name"] for model in json.loads(content)["model_stats"]]
    assert (await http(door, "/v2/models/stats/versions/1"))[0] == 404
