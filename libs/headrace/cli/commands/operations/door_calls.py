"""Calls of the door for operators: a POST with an operator's key, to a running system of this machine."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.message import DecodeError, Message

from headrace.cli.console import again, fail
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError

OperatorKey = Annotated[
    Path | None,
    typer.Option("--key", help="File with the API key of an operator; operator.key of the home if absent."),
]
Reply = TypeVar("Reply", bound=Message)
_TIMEOUT_S = 30.0
_MAX_BYTES = 64 * 1024 * 1024


class NoAnswerError(Exception):
    """The door does not answer, or refuses; the text says what to do."""


def ask(layout: Layout, path: str, request: Message, reply: type[Reply], key: Path | None) -> Reply:
    """The door's answer to an RPC ("/package.Service/Method"), as Connect carries it; ends the command if there is none."""
    try:
        return answer(layout, path, request, reply, key)
    except NoAnswerError as error:
        fail(str(error))


def answer(layout: Layout, path: str, request: Message, reply: type[Reply], key: Path | None = None) -> Reply:
    """As `ask`, but raises NoAnswerError."""
    content = post(layout, path, request.SerializeToString(), "application/proto", key)
    try:
        return reply.FromString(content)
    except DecodeError:
        raise NoAnswerError(
            "the door answers with something else; is it a headrace of this version?"
        ) from None


def post(
    layout: Layout, path: str, body: bytes, kind: str, file: Path | None, timeout_s: float = _TIMEOUT_S
) -> bytes:
    """The content of the answer. `kind`: the content type; `file`: with the key. Raises NoAnswerError."""
    key = file or layout.operator_key
    try:
        address = daemon.door(layout)
        connection = http.client.HTTPConnection(address, timeout=timeout_s)
        headers = {"authorization": f"Bearer {key.read_text().strip()}", "content-type": kind}
    except ControlError as error:
        raise NoAnswerError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoAnswerError(f"the key {key} can't be read ({error}); headrace up makes it") from None
    try:
        connection.request("POST", path, body=body, headers=headers)
        reply = connection.getresponse()
        code, content = reply.status, reply.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(
            f"the door at {address} does not answer ({error}); see: {again('status', layout.home)}"
        ) from None
    finally:
        connection.close()
    if code == http.client.OK:
        return content
    raise NoAnswerError(_refusal(code, content, key))


def _refusal(code: int, content: bytes, key: Path) -> str:
    try:
        found = json.loads(content)
        # As Connect has it, or the REST form.
        said = str(found.get("message") or found["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        found, said = {}, http.client.responses.get(code, str(code))
    if code == http.client.UNAUTHORIZED:
        return f"the door does not know the key in {key} ({said}); make one: headrace keys create operator > {key}"
    if code == http.client.FORBIDDEN:
        return (
            f"the key in {key} is no operator's ({said}); make one: headrace keys create ops --scope operate"
        )
    if found.get("reason") == "NOT_ALLOWED":
        return (
            f"{said}\nStep by step: headrace down; headrace up --together; this command again; headrace down; "
            "headrace up --together --workers N"
        )
    return said
