"""Posts bytes that no client library would send."""

import http.client

from tests.system import System


def post_whole(
    system: System, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """HTTP status, headers (names in lower case) and body of the answer to a POST. Raises ConnectionError."""
    host, port = system.endpoints["grpc"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
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
