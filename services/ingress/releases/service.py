"""headrace.api.releases.v1.ReleaseService: messages to changes of releases and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from headrace.api.releases.v1 import releases_pb2 as pb
from headrace.pipeline import Pipeline
from headrace.releases import LIVE, Freeze, Release, ReleaseError, ReleaseStore
from headrace.releases.changes import (
    Basis,
    Documents,
    KnownModels,
    aborted,
    applied,
    deployed,
    paused,
    promoted,
    resumed,
    rolled_back_by,
    rolled_back_to,
    rollout_started,
    switched,
)
from headrace.releases.changes.deployment import arm_of
from headrace.releases.changes.rollouts import CANDIDATE, Plan
from headrace.releases.document import Arm, to_bytes, validated
from headrace.releases.faults import unreleased
from services.ingress.documents.catalog import has_scope, require
from services.ingress.releases import faults
from services.ingress.releases.desk import Desk, How, Outcome, Wish
from services.ingress.request_context import RequestContext

SCOPE = "operate"
_MAX_REASON = 2000


class ReleaseServicer:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault. `now`: of the wall clock."""

    def __init__(self, desk: Desk, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._desk = desk
        self._now = now

    async def GetRelease(
        self, request: pb.GetReleaseRequest, context: RequestContext
    ) -> pb.GetReleaseResponse:
        pipeline = _asked(request.pipeline, context)

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
        pipeline = _asked(request.pipeline, context) if request.pipeline else ""
        _operator(context)
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
        author = _operator(context)
        values = _document(request.document)
        pipeline, parent = values.get("pipeline"), values.get("parent")
        if not isinstance(pipeline, str):
            raise faults.malformed("document.pipeline", "names no pipeline")
        if type(parent) is not int or parent < 0:
            raise faults.malformed("document.parent", "needs the number of the release that it follows")
        texts = list(request.pipeline_documents)
        about = {"number": parent + 1, "author": author, "at": self._now().isoformat()}
        content = {key: value for key, value in values.items() if key != "sha256"} | about

        def how(_: Basis, documents: Documents, __: KnownModels) -> Release:
            for i, text in enumerate(texts):
                documents.add(text, f"pipeline_documents[{i}]")
            return validated(pipeline, content)

        options = pb.ChangeOptions(expected_number=parent)
        return pb.CommitReleaseResponse(change=await self._change(pipeline, options, context, how))

    async def ApplyRelease(
        self, request: pb.ApplyReleaseRequest, context: RequestContext
    ) -> pb.ApplyReleaseResponse:
        _operator(context)
        wanted = _document(request.document)
        pipeline = wanted.get("pipeline")
        if not isinstance(pipeline, str):
            raise faults.malformed("document.pipeline", "names no pipeline")
        texts = dict(request.pipeline_documents)

        def how(basis: Basis, documents: Documents, known: KnownModels) -> Release | None:
            def find(key: str, value: Any) -> Pipeline:
                if not isinstance(value, str) or value not in texts:
                    raise ReleaseError(
                        basis.pipeline, [f"{key}: pipeline_documents has no {str(value)[:80]!r}"]
                    )
                return documents.add(texts[value], value[:80])

            return applied(basis, wanted, known, find, again=request.again)

        return pb.ApplyReleaseResponse(change=await self._change(pipeline, request.options, context, how))

    async def DeployPipeline(
        self, request: pb.DeployPipelineRequest, context: RequestContext
    ) -> pb.DeployPipelineResponse:
        name = faults.check_name("arm", request.arm or LIVE)

        def how(basis: Basis, documents: Documents, known: KnownModels) -> Release:
            return deployed(basis, _arm(basis, documents, known, request.spec, name), name)

        change = await self._change(request.pipeline, request.options, context, how)
        return pb.DeployPipelineResponse(change=change)

    async def RollBackRelease(
        self, request: pb.RollBackReleaseRequest, context: RequestContext
    ) -> pb.RollBackReleaseResponse:
        history = await self._history(request.pipeline, context)

        def how(basis: Basis, _: Documents, __: KnownModels) -> Release:
            return rolled_back_to(basis, history, request.to_number or None)

        change = await self._change(request.pipeline, request.options, context, how, urgent=True)
        return pb.RollBackReleaseResponse(change=change)

    async def StartRollout(
        self, request: pb.StartRolloutRequest, context: RequestContext
    ) -> pb.StartRolloutResponse:
        name = faults.check_name("arm", request.arm or CANDIDATE)
        said: dict[str, Any] = {
            "ladder": list(request.ladder),
            "deadline_s": request.deadline_s,
            "otherwise": request.otherwise,
            "alpha": request.alpha,
        }
        plan = Plan(name, request.by or None, {key: value for key, value in said.items() if value})
        freeze = await self._frozen(request.pipeline, context)

        def how(basis: Basis, documents: Documents, known: KnownModels) -> Release:
            basis.refuse_rollout("another one")
            arm = _arm(basis, documents, known, request.spec, name)
            return rollout_started(basis, arm, plan, self._now(), freeze)

        change = await self._change(request.pipeline, request.options, context, how)
        return pb.StartRolloutResponse(change=change)

    async def SteerRollout(
        self, request: pb.SteerRolloutRequest, context: RequestContext
    ) -> pb.SteerRolloutResponse:
        freeze = await self._frozen(request.pipeline, context)
        actions: dict[int, Callable[[Basis], Release]] = {
            pb.ROLLOUT_ACTION_PAUSE: paused,
            pb.ROLLOUT_ACTION_RESUME: lambda basis: resumed(basis, freeze),
            pb.ROLLOUT_ACTION_PROMOTE: promoted,
            pb.ROLLOUT_ACTION_ABORT: aborted,
        }
        action = actions.get(request.action)
        if action is None:
            raise faults.malformed("action", f"{request.action} is none; send one of RolloutAction")
        steer = action
        change = await self._change(
            request.pipeline, request.options, context, lambda basis, _, __: steer(basis), urgent=True
        )
        return pb.SteerRolloutResponse(change=change)

    async def SetFreeze(self, request: pb.SetFreezeRequest, context: RequestContext) -> pb.SetFreezeResponse:
        author = _operator(context, None if request.pipeline else "")
        _check_reason("reason", request.reason)
        if request.pipeline:
            options = pb.ChangeOptions(reason=request.reason)
            frozen = request.frozen
            await self._change(
                request.pipeline,
                options,
                context,
                lambda basis, _, __: switched(basis, frozen=frozen),
                urgent=True,
            )
            return pb.SetFreezeResponse(freeze=_freeze(await self._frozen(request.pipeline, context)))
        wanted = Freeze(author, request.reason or "no reason given", self._now()) if request.frozen else None

        def write(store: ReleaseStore) -> pb.SetFreezeResponse:
            store.freeze(wanted)
            return pb.SetFreezeResponse(freeze=_freeze(store.frozen()))

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
        _asked(pipeline, context)
        _check_reason("options.reason", options.reason)
        expected = options.expected_number if options.HasField("expected_number") else None
        wish = Wish(pipeline, _operator(context, pipeline), options.reason, expected, options.dry_run, urgent)
        return _told(await self._desk.change(wish, how, context.deadline))

    async def _history(self, pipeline: str, context: RequestContext) -> list[Release]:
        name = _asked(pipeline, context)
        return await self._desk.read(name, lambda store: store.history(name), context.deadline)

    async def _frozen(self, pipeline: str, context: RequestContext) -> Freeze | None:
        name = _asked(pipeline, context)
        return await self._desk.read(name, lambda store: store.frozen(), context.deadline)


def _operator(context: RequestContext, pipeline: str | None = None) -> str:
    """The caller's name for the audit. Raises Fault: it is no operator of this pipeline; "": of all; None: of any."""
    credential = context.caller
    require(credential, SCOPE, pipeline)
    return f"{credential.tenant.name}/{credential.key_id}"


def _asked(pipeline: str, context: RequestContext) -> str:
    """The name of a pipeline that an operator asks about. Raises Fault."""
    _operator(context)
    context.pipeline = faults.check_name("pipeline", pipeline)
    _operator(context, pipeline)
    return pipeline


def _check_reason(field: str, reason: str) -> None:
    if len(reason) > _MAX_REASON:
        raise faults.malformed(field, f"has more than {_MAX_REASON} characters")


def _arm(basis: Basis, documents: Documents, known: KnownModels, spec: pb.ArmSpec, name: str) -> Arm:
    """Raises ReleaseError."""
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
    return arm_of(basis, pipeline, known, name=name, models=models, label=spec.label, settings=settings)


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
        raise faults.malformed("document", "is no JSON object")
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


def _told(outcome: Outcome) -> pb.ReleaseChange:
    return pb.ReleaseChange(
        release=_release(outcome.release),
        changed=outcome.changed,
        differences=[pb.Difference(key=d.key, before=d.before, after=d.after) for d in outcome.differences],
    )
