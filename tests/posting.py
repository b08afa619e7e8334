"""Posts of JSON, and of bytes that no client library would send."""

import http.client
import json
from typing import Any

from tests.system import System


def post_json(
    system: System, path: str, body: object, timeout_s: float = 60, **headers: str
) -> tuple[int, Any]:
    """HTTP status and reply of a POST of JSON. `body`: a text is sent as it is; `headers`: with `_` for `-`."""
    text = body if isinstance(body, str) else json.dumps(body)
    fields = {"content-type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, reply = post_whole(system, path, fields, text.encode(), timeout_s)
    return status, json.loads(reply)


def post_whole(
    system: System, path: str, headers: dict[str, str], body: bytes, timeout_s: float = 10
) -> tuple[int, dict[str, str], bytes]:
    """HTTP status, headers (names in lower case) and body of the answer to a POST. Raises ConnectionError."""
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("POST", path, body, {**headers, "authorization": f"Bearer {system.key}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def post_raw(system: System, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
    """HTTP status and headers (names in lower case) of a POST."""
    try:
        return post_whole(system, path, headers, body)[:2]
    except (ConnectionError, http.client.RemoteDisconnected):
        return 400, {}  # closed while we were still sending: also a refusal
