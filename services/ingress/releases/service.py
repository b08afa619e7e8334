"""headrace.api.releases.v1.ReleaseService: messages to changes of releases and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headrace.api.releases.v1 import releases_pb2 as pb
from headrace.pipeline import Pipeline
from headrace.releases import LIVE, Freeze, Release, ReleaseError, ReleaseStore
from headrace.releases.changes import (
    HoldbackContext,
    aborted,
    applied,
    paused,
    promoted,
    resumed,
    rolled_back_by,
    rolled_back_to,
    rollout_started,
    switched,
    with_holdback,
)
from headrace.releases.changes.deployment import arm_of
from headrace.releases.changes.rollouts import CANDIDATE, Plan
from headrace.releases.document import Arm, to_bytes, validated
from headrace.releases.faults import unreleased
from services.ingress.auth.operators import SCOPE, check_name, operated, operator
from services.ingress.documents.catalog import has_scope
from services.ingress.faults import malformed_field
from services.ingress.releases.desk import Desk, How, Outcome, Place, Wish
from services.ingress.request_context import RequestContext

_MAX_REASON = 2000


class ReleaseServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def GetRelease(
        self, request: pb.GetReleaseRequest, context: RequestContext
    ) -> pb.GetReleaseResponse:
        pipeline = operated(request.pipeline, context)

        def read(store: ReleaseStore) -> pb.GetReleaseResponse:
            release, broken = store.current(pipeline)
            if release is None:
                raise unreleased(pipeline)
            problem = f"release {broken.number}: {broken.problem}" if broken else ""
            reply = pb.GetReleaseResponse(release=_release(release), problem=problem)
            reply.newest_number = max(release.number, broken.number if broken else 0)
            freeze = _freeze(store.frozen())
            if freeze is not None:
                reply.freeze.CopyFrom(freeze)
            if request.with_documents:
                reply.pipeline_documents.update(_documents(store, [release]))
            return reply

        return await self._desk.read(pipeline, read, context.deadline)

    async def ListReleases(
        self, request: pb.ListReleasesRequest, context: RequestContext
    ) -> pb.ListReleasesResponse:
        pipeline = operated(request.pipeline, context) if request.pipeline else ""
        operator(context)
        credential = context.caller

        def read(store: ReleaseStore) -> pb.ListReleasesResponse:
            if pipeline:
                found = store.history(pipeline)
            else:
                mine = [name for name in store.pipelines() if has_scope(credential, SCOPE, name)]
                current = (store.current(name)[0] for name in mine)
                found = [release for release in current if release is not None]
            back = rolled_back_by(found) if pipeline else {}
            reply = pb.ListReleasesResponse(releases=[_release(r, back.get(r.number, 0)) for r in found])
            if pipeline and request.with_documents:
                reply.pipeline_documents.update(_documents(store, found))
            return reply

        return await self._desk.read(pipeline, read, context.deadline)

    async def CommitRelease(
        self, request: pb.CommitReleaseRequest, context: RequestContext
    ) -> pb.CommitReleaseResponse:
        author = operator(context)
        values = _document(request.document)
        pipeline, parent = values.get("pipeline"), values.get("parent")
        if not isinstance(pipeline, str):
            raise malformed_field("document.pipeline", "names no pipeline")
        if type(parent) is not int or parent < 0:
            raise malformed_field("document.parent", "needs the number of the release that it follows")
        texts = list(request.pipeline_documents)
        about = {"number": parent + 1, "author": author, "at": datetime.now(UTC).isoformat()}
        content = {key: value for key, value in values.items() if key != "sha256"} | about

        def how(place: Place) -> Release:
            for i, text in enumerate(texts):
                place.documents.add(text, f"pipeline_documents[{i}]")
            return validated(pipeline, content)

        options = pb.ChangeOptions(expected_number=parent)
        return pb.CommitReleaseResponse(change=await self._change(pipeline, options, context, how))

    async def ApplyRelease(
        self, request: pb.ApplyReleaseRequest, context: RequestContext
    ) -> pb.ApplyReleaseResponse:
        operator(context)
        wanted = _document(request.document)
        pipeline = wanted.get("pipeline")
        if not isinstance(pipeline, str):
            raise malformed_field("document.pipeline", "names no pipeline")
        texts = dict(request.pipeline_documents)

        def how(place: Place) -> Release | None:
            def find(key: str, value: Any) -> Pipeline:
                if not isinstance(value, str) or value not in texts:
                    raise ReleaseError(pipeline, [f"{key}: pipeline_documents has no {str(value)[:80]!r}"])
                return place.documents.add(texts[value], value[:80])

            return applied(place.basis, wanted, place.known, find, again=request.again)

        return pb.ApplyReleaseResponse(change=await self._change(pipeline, request.options, context, how))

    async def DeployPipeline(
        self, request: pb.DeployPipelineRequest, context: RequestContext
    ) -> pb.DeployPipelineResponse:
        name = check_name("arm", request.arm or LIVE)

        def how(place: Place) -> Release:
            holdback = HoldbackContext(place.documents, place.known, datetime.now(UTC), place.store.frozen())
            arm = _arm(place, request.spec, name)
            return with_holdback(place.basis, arm, name, None if request.without_holdback else holdback)[0]

        change = await self._change(request.pipeline, request.options, context, how)
        return pb.DeployPipelineResponse(change=change)

    async def RollBackRelease(
        self, request: pb.RollBackReleaseRequest, context: RequestContext
    ) -> pb.RollBackReleaseResponse:
        def how(place: Place) -> Release:
            history = place.store.history(request.pipeline)
            return rolled_back_to(place.basis, history, request.to_number or None)

        change = await self._change(request.pipeline, request.options, context, how, urgent=True)
        return pb.RollBackReleaseResponse(change=change)

    async def StartRollout(
        self, request: pb.StartRolloutRequest, context: RequestContext
    ) -> pb.StartRolloutResponse:
        name = check_name("arm", request.arm or CANDIDATE)
        said: dict[str, Any] = {
            "ladder": list(request.ladder),
            "deadline_s": request.deadline_s,
            "otherwise": request.otherwise,
            "alpha": request.alpha,
        }
        plan = Plan(name, request.by or None, {key: value for key, value in said.items() if value})

        def how(place: Place) -> Release:
            place.basis.refuse_rollout("another one")
            arm = _arm(place, request.spec, name)
            declared = replace(plan, declared=place.documents.guards(arm))
            return rollout_started(place.basis, arm, declared, datetime.now(UTC), place.store.frozen())

        change = await self._change(request.pipeline, request.options, context, how)
        return pb.StartRolloutResponse(change=change)

    async def SteerRollout(
        self, request: pb.SteerRolloutRequest, context: RequestContext
    ) -> pb.SteerRolloutResponse:
        actions: dict[int, How] = {
            pb.ROLLOUT_ACTION_PAUSE: lambda place: paused(place.basis),
            pb.ROLLOUT_ACTION_RESUME: lambda place: resumed(place.basis, place.store.frozen()),
            pb.ROLLOUT_ACTION_PROMOTE: lambda place: promoted(place.basis),
            pb.ROLLOUT_ACTION_ABORT: lambda place: aborted(place.basis),
        }
        action = actions.get(request.action)
        if action is None:
            raise malformed_field("action", f"{request.action} is none; send one of RolloutAction")
        change = await self._change(request.pipeline, request.options, context, action, urgent=True)
        return pb.SteerRolloutResponse(change=change)

    async def SetFreeze(self, request: pb.SetFreezeRequest, context: RequestContext) -> pb.SetFreezeResponse:
        author = operator(context, None if request.pipeline else "")
        _check_reason("reason", request.reason)
        if request.pipeline:
            options = pb.ChangeOptions(reason=request.reason)
            frozen = request.frozen
            await self._change(
                request.pipeline,
                options,
                context,
                lambda place: switched(place.basis, frozen=frozen),
                urgent=True,
            )
            return await self._desk.read(request.pipeline, _frozen, context.deadline)
        wanted = (
            Freeze(author, request.reason or "no reason given", datetime.now(UTC)) if request.frozen else None
        )

        def write(store: ReleaseStore) -> pb.SetFreezeResponse:
            store.freeze(wanted)
            return _frozen(store)

        return await self._desk.read("", write, context.deadline)

    async def _change(
        self,
        pipeline: str,
        options: pb.ChangeOptions,
        context: RequestContext,
        how: How,
        *,
        urgent: bool = False,
    ) -> pb.ReleaseChange:
        operated(pipeline, context)
        _check_reason("options.reason", options.reason)
        expected = options.expected_number if options.HasField("expected_number") else None
        wish = Wish(pipeline, operator(context, pipeline), options.reason, expected, options.dry_run, urgent)
        return _told(await self._desk.change(wish, how, context.deadline))


def _check_reason(field: str, reason: str) -> None:
    if len(reason) > _MAX_REASON:
        raise malformed_field(field, f"has more than {_MAX_REASON} characters")


def _arm(place: Place, spec: pb.ArmSpec, name: str) -> Arm:
    """Raises ReleaseError."""
    basis, documents = place.basis, place.documents
    if spec.pipeline_document:
        pipeline = documents.add(spec.pipeline_document, "pipeline_document")
    else:
        revision = basis.current.live.revision
        text = documents.text(revision)
        if text is None:
            problem = f"arms.{LIVE}.revision: its document is not stored; send one"
            raise ReleaseError(basis.pipeline, [problem])
        pipeline = documents.add(text, f"{basis.pipeline}@{revision[:12]}")
    models, settings = dict(spec.models), _settings(basis.pipeline, name, spec.settings)
    return arm_of(basis, pipeline, place.known, name=name, models=models, label=spec.label, settings=settings)


def _settings(pipeline: str, arm: str, texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, text in texts.items():
        stage, dot, name = key.partition(".")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not (stage and dot and name) or not isinstance(value, str | int | float | bool):
            problem = (
                f"arms.{arm}.settings.{key[:80]}: needs STAGE.KEY, and a text, number or truth value as JSON"
            )
            raise ReleaseError(pipeline, [problem])
        found.setdefault(stage, {})[name] = value
    return found


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise malformed_field("document", "is no JSON object")
    return found


def _release(release: Release, rolled_back_by: int = 0) -> pb.Release:
    found = pb.Release(pipeline=release.pipeline, number=release.number, rolled_back_by=rolled_back_by)
    found.document = to_bytes(release).decode()
    return found


def _documents(store: ReleaseStore, releases: Sequence[Release]) -> dict[str, str]:
    """Content hash → text of each document that releases of one pipeline name."""
    found = {revision: release.pipeline for release in releases for revision in release.revisions()}
    texts = {revision: store.document(pipeline, revision) for revision, pipeline in found.items()}
    return {revision: text for revision, text in texts.items() if text is not None}


def _freeze(freeze: Freeze | None) -> pb.Freeze | None:
    if freeze is None:
        return None
    return pb.Freeze(author=freeze.author, reason=freeze.reason, since=freeze.at.isoformat())


def _frozen(store: ReleaseStore) -> pb.SetFreezeResponse:
    return pb.SetFreezeResponse(freeze=_freeze(store.frozen()))


def _told(outcome: Outcome) -> pb.ReleaseChange:
    return pb.ReleaseChange(
        release=_release(outcome.release),
        changed=outcome.changed,
        differences=[pb.Difference(key=d.key, before=d.before, after=d.after) for d in outcome.differences],
    )
