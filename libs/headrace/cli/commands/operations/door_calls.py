"""Calls of a door for operators: a POST with an operator's key, to the system of this machine or to the door that is named."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer
from google.protobuf.message import DecodeError, Message

from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError

OperatorKey = Annotated[
    Path | None,
    typer.Option("--key", help="File with the API key of an operator; operator.key of the home if absent."),
]
Reply = TypeVar("Reply", bound=Message)
_TIMEOUT_S = 60.0
_MAX_BYTES = 64 * 1024 * 1024


class NoAnswerError(Exception):
    """The door does not answer, or refuses; the text says what to do."""


class RefusedError(NoAnswerError):
    """It refuses. `reason`, `metadata`: of its error."""

    def __init__(self, text: str, reason: str, metadata: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.reason = reason
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class Door:
    """`url`: http(s)://HOST:PORT; `key`: file with an operator's API key; `ca`: PEM file of the authority to trust, None: the
    system's. `absent`: why there is none."""

    url: str
    key: Path
    ca: Path | None = None
    absent: str = ""


def local(layout: Layout, key: Path | None = None) -> Door:
    """The door of a home, by its own key or that of a file."""
    key = key or layout.operator_key
    try:
        return Door(f"http://{daemon.door(layout)}", key)
    except ControlError as error:
        return Door("", key, absent=str(error))


def ask(door: Door, path: str, request: Message, reply: type[Reply]) -> Reply:
    """The door's answer to an RPC ("/package.Service/Method"), as Connect carries it; ends the command if there is none."""
    try:
        return answer(door, path, request, reply)
    except NoAnswerError as error:
        fail(str(error))


def answer(door: Door, path: str, request: Message, reply: type[Reply]) -> Reply:
    """As `ask`, but raises NoAnswerError."""
    content = post(door, path, request.SerializeToString(), "application/proto")
    try:
        return reply.FromString(content)
    except DecodeError:
        raise NoAnswerError(
            "the door answers with something else; is it a headrace of this version?"
        ) from None


def post(door: Door, path: str, body: bytes, kind: str, timeout_s: float = _TIMEOUT_S) -> bytes:
    """The content of the answer. `kind`: the content type. Raises NoAnswerError."""
    if door.absent:
        raise NoAnswerError(door.absent)
    address = urlsplit(door.url).netloc
    connection = _connection(door, address, timeout_s)
    try:
        headers = {"authorization": f"Bearer {door.key.read_text().strip()}", "content-type": kind}
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise NoAnswerError(
            f"the key {door.key} can't be read ({why}); headrace up makes that of a home"
        ) from None
    try:
        connection.request("POST", path, body=body, headers=headers)
        reply = connection.getresponse()
        code, content = reply.status, reply.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Not the error's own text: a header that can't be sent would be quoted in it.
        raise NoAnswerError(
            f"the door at {address} does not answer ({type(error).__name__}); see there: headrace status"
        ) from None
    finally:
        connection.close()
    if code == http.client.OK:
        return content
    raise _refusal(code, content, door.key)


def _connection(door: Door, address: str, timeout_s: float) -> http.client.HTTPConnection:
    if not door.url.startswith("https:"):
        return http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        tls = ssl.create_default_context(cafile=door.ca)
    except (OSError, ssl.SSLError) as error:
        raise NoAnswerError(f"--ca: {door.ca} can't be read ({error.strerror})") from None
    return http.client.HTTPSConnection(address, timeout=timeout_s, context=tls)


def _refusal(code: int, content: bytes, key: Path) -> RefusedError:
    """Of Connect's form of an error, or the REST form."""
    try:
        found = dict(json.loads(content))
    except (ValueError, TypeError):
        found = {}
    said = str(found.get("message") or found.get("error") or http.client.responses.get(code, code))
    about = next((d.get("debug") or {} for d in found.get("details", ()) if isinstance(d, dict)), {})
    reason = str(about.get("reason") or found.get("reason") or "")
    if code == http.client.UNAUTHORIZED:
        said = f"the door does not know the key in {key} ({said}); make one: headrace keys create operator > {key}"
    elif code == http.client.FORBIDDEN:
        said = (
            f"the key in {key} is no operator's ({said}); make one: headrace keys create ops --scope operate"
        )
    elif reason == "NOT_ALLOWED":
        said += (
            "\nStep by step: headrace down; headrace up --together; this command again; headrace down; "
            "headrace up --together --workers N"
        )
    return RefusedError(said, reason, about.get("metadata") or found.get("metadata") or {})
