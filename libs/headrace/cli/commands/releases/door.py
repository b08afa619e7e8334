"""The releases of a running system, reached through its door: `headrace release --door URL --key FILE …`."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from headrace.cli.console import fail
from headrace.releases import Broken, Freeze, Release, ReleaseError, StaleError
from headrace.releases.changes import KnownModels
from headrace.releases.document import from_bytes, to_bytes

_SERVICE = "/headrace.api.releases.v1.ReleaseService/"
_INDEX = "/v2/repository/index"
_TIMEOUT_S = 60.0
_ANSWER_BYTES = 64 << 20

Url = Annotated[
    str,
    typer.Option(
        "--door",
        envvar="HEADRACE_DOOR",
        help="http(s)://HOST:PORT of a running system; this machine's files if absent.",
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", envvar="HEADRACE_KEY_FILE", help="File with an operator's API key.")
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", envvar="HEADRACE_CA", help="PEM file of the authority to trust (https)."),
]


@dataclass(frozen=True, slots=True)
class Address:
    """A door, and the key of an operator."""

    url: str
    key: Path
    ca: Path | None


# What the options of the group say, for the command that runs.
CHOSEN: ContextVar[Address | None] = ContextVar("door", default=None)


def choose(door: Url = "", key: KeyFile = None, ca: Ca = None) -> None:
    """The options of the whole group."""
    CHOSEN.set(None)
    if not door:
        return
    if key is None:
        fail("name the file with an operator's key: --key FILE", code=2)
    parts = urlsplit(door)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        fail(f"--door {parts.scheme}://{parts.hostname or ''} is no door; as https://HOST:PORT", code=2)
    CHOSEN.set(Address(door, key, ca))


class DoorReleases:
    """A `ReleaseStore` behind a door. `remove` is not served there. Raises OSError, ReleaseError."""

    def __init__(self, address: Address) -> None:
        self._parts = urlsplit(address.url)
        self._key = _read(address.key)
        self._tls = _tls(address.ca) if self._parts.scheme == "https" else None
        self._texts: dict[str, str] = {}

    def pipelines(self) -> list[str]:
        return sorted(r["pipeline"] for r in self._ask("ListReleases", {}).get("releases", ()))

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        try:
            found = self._ask("GetRelease", {"pipeline": pipeline, "withDocuments": True})
        except _NotThereError:
            return None, None
        self._texts |= found.get("pipelineDocuments", {})
        problem, newest = found.get("problem", ""), int(found.get("newestNumber", 0))
        return _release(found["release"]), Broken(pipeline, newest, problem) if problem else None

    def history(self, pipeline: str) -> list[Release]:
        found = self._ask("ListReleases", {"pipeline": pipeline, "withDocuments": True})
        self._texts |= found.get("pipelineDocuments", {})
        return [_release(one) for one in found.get("releases", ())]

    def commit(self, release: Release, documents: Mapping[str, str] = MappingProxyType({})) -> None:
        texts = [documents[revision] for revision in sorted(release.revisions()) if revision in documents]
        self._ask("CommitRelease", {"document": to_bytes(release).decode(), "pipelineDocuments": texts})

    def remove(self, pipeline: str) -> None:
        raise ReleaseError(
            pipeline, ["--door: a pipeline is removed on its machine: headrace release remove"]
        )

    def document(self, pipeline: str, revision: str) -> str | None:
        if revision not in self._texts:
            self.history(pipeline)
        return self._texts.get(revision)

    def freeze(self, freeze: Freeze | None) -> None:
        self._ask("SetFreeze", {"frozen": freeze is not None, "reason": freeze.reason if freeze else ""})

    def frozen(self) -> Freeze | None:
        for pipeline in self.pipelines():
            about = self._ask("GetRelease", {"pipeline": pipeline}).get("freeze")
            if about is None:
                return None
            since = datetime.fromisoformat(about["since"])
            return Freeze(about.get("author", ""), about.get("reason", ""), since)
        return None

    def close(self) -> None:
        """Each call has a connection of its own."""

    def known(self) -> KnownModels:
        """The versions in the repository of the running system."""
        versions: dict[str, list[str]] = {}
        for model in self._post(_INDEX, {}):
            versions.setdefault(model["name"], []).append(model["version"])
        return KnownModels(versions)

    def _ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.ask(_SERVICE + name, body)

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The door's answer to an RPC ("/package.Service/Method"), as JSON. Raises ReleaseError: it refuses."""
        found = self._post(path, body)
        if not isinstance(found, dict):
            fail("the door's answer can't be read; is it headrace's?")
        return found

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        host, port = self._parts.hostname or "", self._parts.port
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            connection.request("POST", path, body=json.dumps(body), headers=headers)
            answer = connection.getresponse()
            content = answer.read(_ANSWER_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Not the error's own text: a header that can't be sent would be quoted in it.
            fail(f"the door at {host}:{port or ''} does not answer ({type(error).__name__})")
        finally:
            connection.close()
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            fail(f"the door at {host}:{port or ''} answers {answer.status}, and no JSON; is it headrace's?")
        if answer.status == http.client.OK:
            return found
        raise _refusal(answer.status, found)


class _NotThereError(ReleaseError):
    """There is no release."""


def _refusal(status: int, found: Any) -> ReleaseError:
    """The error that a store would have raised, of the door's answer (Connect's form or the REST form)."""
    told = found if isinstance(found, dict) else {}
    message = str(told.get("message") or told.get("error") or http.client.responses.get(status, status))
    info = next((d.get("debug") or {} for d in told.get("details", ()) if isinstance(d, dict)), {})
    reason = info.get("reason") or told.get("reason") or ""
    metadata = info.get("metadata") or told.get("metadata") or {}
    pipeline = str(metadata.get("pipeline", ""))
    number = str(metadata.get("number", ""))
    match reason:
        case "RELEASE_STALE" if number.isdecimal():
            return StaleError(pipeline, int(number), int(number) + 1)
        case "PIPELINE_UNKNOWN":
            return _NotThereError(pipeline, [message])
        case "CREDENTIAL_INVALID":
            return ReleaseError(pipeline, [f"--key: the door does not know this key ({message})"])
        case "NOT_ALLOWED":
            hint = "make one: headrace keys create ops --scope operate"
            return ReleaseError(pipeline, [f"--key: this is no operator's key ({message}); {hint}"])
    return ReleaseError(pipeline, [message])


def _release(found: Mapping[str, Any]) -> Release:
    return from_bytes(str(found["pipeline"]), str(found["document"]).encode())


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--key: {path} can't be read ({getattr(error, 'strerror', None) or 'it is no text'})")


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        fail(f"--ca: {ca} can't be read ({error.strerror})")
