"""The releases of a running system, reached through its door: `headrace release --door URL --key FILE …`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

import typer
from google.protobuf.message import Message

from headrace.api.releases.v1 import releases_pb2 as pb
from headrace.cli.commands.operations import door_calls
from headrace.cli.commands.operations.door_calls import Door, RefusedError, Reply
from headrace.cli.console import fail
from headrace.releases import Broken, Freeze, Release, ReleaseError, StaleError
from headrace.releases.changes import KnownModels
from headrace.releases.document import from_bytes, to_bytes

_SERVICE = "/headrace.api.releases.v1.ReleaseService/"
_INDEX = "/v2/repository/index"

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


# What the options of the group say, for the command that runs.
CHOSEN: ContextVar[Door | None] = ContextVar("door", default=None)


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
    CHOSEN.set(Door(door, key, ca))


class DoorReleases:
    """A `ReleaseStore` behind a door. `remove` is not served there. Raises ReleaseError; ends the command without an answer."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._texts: dict[str, str] = {}

    def pipelines(self) -> list[str]:
        return sorted(release.pipeline for release in self._list("").releases)

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        try:
            found = self._get(pipeline)
        except _NotThereError:
            return None, None
        self._texts |= found.pipeline_documents
        broken = Broken(pipeline, found.newest_number, found.problem) if found.problem else None
        return _release(found.release), broken

    def history(self, pipeline: str) -> list[Release]:
        found = self._list(pipeline)
        self._texts |= found.pipeline_documents
        return [_release(one) for one in found.releases]

    def commit(self, release: Release, documents: Mapping[str, str] = MappingProxyType({})) -> None:
        texts = [documents[revision] for revision in sorted(release.revisions()) if revision in documents]
        made = pb.CommitReleaseRequest(document=to_bytes(release).decode(), pipeline_documents=texts)
        self._ask("CommitRelease", made, pb.CommitReleaseResponse)

    def remove(self, pipeline: str) -> None:
        raise ReleaseError(
            pipeline, ["--door: a pipeline is removed on its machine: headrace release remove"]
        )

    def document(self, pipeline: str, revision: str) -> str | None:
        if revision not in self._texts:
            self.history(pipeline)
        return self._texts.get(revision)

    def freeze(self, freeze: Freeze | None) -> None:
        reason = freeze.reason if freeze else ""
        self._ask(
            "SetFreeze", pb.SetFreezeRequest(frozen=freeze is not None, reason=reason), pb.SetFreezeResponse
        )

    def frozen(self) -> Freeze | None:
        for pipeline in self.pipelines():
            found = self._get(pipeline)
            if not found.HasField("freeze"):
                return None
            about = found.freeze
            return Freeze(about.author, about.reason, datetime.fromisoformat(about.since))
        return None

    def close(self) -> None:
        """Each call has a connection of its own."""

    def known(self) -> KnownModels:
        """The versions in the repository of the running system."""
        versions: dict[str, list[str]] = {}
        try:
            found = json.loads(door_calls.post(self.door, _INDEX, b"{}", "application/json"))
        except door_calls.NoAnswerError as error:
            fail(str(error))
        for model in found:
            versions.setdefault(model["name"], []).append(model["version"])
        return KnownModels(versions)

    def _get(self, pipeline: str) -> pb.GetReleaseResponse:
        request = pb.GetReleaseRequest(pipeline=pipeline, with_documents=True)
        return self._ask("GetRelease", request, pb.GetReleaseResponse)

    def _list(self, pipeline: str) -> pb.ListReleasesResponse:
        request = pb.ListReleasesRequest(pipeline=pipeline, with_documents=bool(pipeline))
        return self._ask("ListReleases", request, pb.ListReleasesResponse)

    def _ask(self, name: str, request: Message, reply: type[Reply]) -> Reply:
        try:
            return door_calls.answer(self.door, _SERVICE + name, request, reply)
        except RefusedError as error:
            raise _refused(error) from None
        except door_calls.NoAnswerError as error:
            fail(str(error))


class _NotThereError(ReleaseError):
    """There is no release."""


def _refused(error: RefusedError) -> ReleaseError:
    """The error that a store would have raised."""
    pipeline, number = (str(error.metadata.get(key, "")) for key in ("pipeline", "number"))
    if error.reason == "RELEASE_STALE" and number.isdecimal():
        return StaleError(pipeline, int(number), int(number) + 1)
    kind = _NotThereError if error.reason == "PIPELINE_UNKNOWN" else ReleaseError
    return kind(pipeline, [str(error)])


def _release(found: pb.Release) -> Release:
    return from_bytes(found.pipeline, found.document.encode())
