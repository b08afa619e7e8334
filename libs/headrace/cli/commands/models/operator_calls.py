"""Loading and unloading models in a running system, by the model repository calls of the ingress."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from headrace.cli.commands.lifecycle import status
from headrace.cli.commands.operations.door_calls import NoAnswerError, operator_key
from headrace.cli.console import again, fail
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError

# A load may build an engine; the ingress waits ten minutes for it.
_TIMEOUT_S = 610.0
# The ingress reads new keys within a second.
_SEEN_S = 10.0


def ask(layout: Layout, action: Literal["load", "unload"], model: str, key: Path | None) -> None:
    """Has every executor load or unload `model` (NAME or NAME:VERSION); ends the command if that fails."""
    address = _address(layout, action, model)
    text, made = _key(layout, key)
    ends = time.monotonic() + _SEEN_S
    while True:
        code, answer = _post(address, f"/v2/repository/models/{quote(model, safe=':')}/{action}", text)
        if code != http.client.UNAUTHORIZED or not made or time.monotonic() > ends:
            break
        time.sleep(0.2)
    if code == http.client.OK:
        return
    fail(_said(code, answer, key or layout.operator_key))


def _address(layout: Layout, action: str, model: str) -> str:
    if not daemon.running(layout):
        start = f"{again('up', layout.home)}, then again: {again(f'models {action} {model}', layout.home)}"
        fail(f"headrace is not running here, so nobody can {action} a model; start it: {start}")
    try:
        return str(status.read(layout)["endpoints"]["grpc"])
    except ControlError as error:
        fail(f"{error}; see: headrace status")


def _key(layout: Layout, file: Path | None) -> tuple[str, bool]:
    try:
        return operator_key(layout, file)
    except NoAnswerError as error:
        fail(str(error))


def _post(address: str, path: str, key: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", path, body="{}", headers={"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        content = answer.read(1 << 20)
    except (OSError, http.client.HTTPException, ValueError) as error:
        fail(f"the door at {address} does not answer ({error}); see: headrace status")
    finally:
        connection.close()
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        found = {}
    return answer.status, found if isinstance(found, dict) else {}


def _said(code: int, answer: dict[str, Any], key: Path) -> str:
    said = str(answer.get("error") or http.client.responses.get(code, code))
    match answer.get("reason"):
        case "CREDENTIAL_INVALID":
            return f"the door does not know the key in {key} ({said}); remove the file to have one made, or name another: --key"
        case "NOT_ALLOWED" if code == http.client.FORBIDDEN:
            return f"the key in {key} is no operator's ({said}); make one: headrace keys create ops --scope operate"
        case "NOT_ALLOWED":
            return (
                f"{said}\nStep by step: headrace down; headrace up --together; this command again; headrace down; "
                "headrace up --together --workers N"
            )
    return said
