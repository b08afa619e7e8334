"""Calls of the door's RPCs for operators, as Connect carries them: a POST with a protobuf message."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.message import DecodeError, Message

from headrace.access.records import AccessError
from headrace.catalog.errors import RecordsError, RecordsUnavailableError
from headrace.cli.commands.lifecycle import status
from headrace.cli.console import again, fail
from headrace.cli.installation import control_place, secrets
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError

OperatorKey = Annotated[
    Path | None,
    typer.Option("--key", help="File with the API key of an operator; operator.key of the home if absent."),
]
Reply = TypeVar("Reply", bound=Message)
_TIMEOUT_S = 30.0
# The ingress reads new keys within a second.
_SEEN_S = 10.0
_MAX_BYTES = 64 * 1024 * 1024


class NoAnswerError(Exception):
    """The door does not answer, or refuses; the text says what to do."""


def ask(layout: Layout, path: str, request: Message, reply: type[Reply], key: Path | None) -> Reply:
    """The door's answer to an RPC ("/package.Service/Method"); ends the command if there is none."""
    try:
        return answer(layout, path, request, reply, key)
    except NoAnswerError as error:
        fail(str(error))


def answer(layout: Layout, path: str, request: Message, reply: type[Reply], key: Path | None = None) -> Reply:
    """As `ask`, but raises NoAnswerError."""
    address, (text, made) = _address(layout), operator_key(layout, key)
    ends = time.monotonic() + _SEEN_S
    while True:
        code, content = _post(address, path, request.SerializeToString(), text)
        if code != http.client.UNAUTHORIZED or not made or time.monotonic() > ends:
            break
        time.sleep(0.2)
    if code != http.client.OK:
        raise NoAnswerError(_said(code, content, key or layout.operator_key))
    try:
        return reply.FromString(content)
    except DecodeError:
        raise NoAnswerError(
            f"the door at {address} answers with something else; is it a headrace of this version?"
        ) from None


def _address(layout: Layout) -> str:
    if not daemon.running(layout):
        start = again("up", layout.home)
        raise NoAnswerError(f"headrace is not running here, so there is nobody to ask; start it: {start}")
    try:
        return str(status.read(layout)["endpoints"]["grpc"])
    except ControlError as error:
        raise NoAnswerError(f"{error}; see: headrace status") from None


def operator_key(layout: Layout, file: Path | None) -> tuple[str, bool]:
    """An operator's API key, and whether it was made just now. Raises NoAnswerError."""
    try:
        if file is not None:
            return file.read_text().strip(), False
        made = _ensure_operator(layout)
        return layout.operator_key.read_text().strip(), made
    except (AccessError, RecordsError, UnicodeDecodeError) as error:
        raise NoAnswerError(f"there is no usable key for operators: {error}") from None
    except OSError as error:
        raise NoAnswerError(
            f"the key {file or layout.operator_key} can't be read or made ({error.strerror})"
        ) from None


def _ensure_operator(layout: Layout) -> bool:
    """Whether the operator's key was made just now. While control is away, the key that there is does."""
    try:
        with control_place.records(layout) as records:
            return secrets.ensure_operator(layout, records)
    except RecordsUnavailableError:
        if not layout.operator_key.exists():
            raise
        return False


def _post(address: str, path: str, body: bytes, key: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/proto"}
    try:
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(
            f"the door at {address} does not answer ({error}); see: headrace status"
        ) from None
    finally:
        connection.close()


def _said(code: int, content: bytes, key: Path) -> str:
    try:
        told = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        told = http.client.responses.get(code, str(code))
    if code == http.client.UNAUTHORIZED:
        return f"the door does not know the key in {key} ({told}); remove the file to have one made, or name another: --key"
    if code == http.client.FORBIDDEN:
        return (
            f"the key in {key} is no operator's ({told}); make one: headrace keys create ops --scope operate"
        )
    return told
