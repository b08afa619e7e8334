"""The Open Inference Protocol's model repository extension, for operators: which models are loaded, and which should be.

Names here are names of models in the model repository, in the usual forms `NAME`, `NAME:VERSION` or `NAME:LABEL`.
In all other RPCs of the door, a "model" is a pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace.hop.errors import Code, Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import ModelState
from services.ingress.auth.operators import operator
from services.ingress.clients import HopModelOperations
from services.ingress.faults import invalid
from services.ingress.request_context import RequestContext

# A load may build an engine. A caller that wants to wait less sets a deadline; the load continues after it.
_LOAD_S = 600.0
_INDEX_S = 10.0
# Triton's states. An ASLEEP version counts as ready: the next call wakes it.
_STATES: Mapping[ModelState, tuple[str, str]] = {
    ModelState.ACTIVE: ("READY", ""),
    ModelState.ASLEEP: ("READY", "asleep; the next call wakes it"),
    ModelState.LOADING: ("LOADING", ""),
    ModelState.UNLOADED: ("UNAVAILABLE", "unloaded"),
}


class ModelRepository:
    """Methods are named like the RPCs and take `(request, context)`; they raise Fault.

    `reaches_all`: whether a load by `operations` reaches every executor.
    """

    def __init__(self, operations: HopModelOperations, *, reaches_all: bool = True) -> None:
        self._operations = operations
        self._reaches_all = reaches_all

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: RequestContext
    ) -> pb.RepositoryIndexResponse:
        operator(context)
        _check_repository(request.repository_name)
        models = await self._operations.index(context.deadline_within(_INDEX_S))
        index = pb.RepositoryIndexResponse()
        for model in models:
            state, reason = _STATES[model.state]
            if state == "READY" or not request.ready:
                reason = model.progress or reason
                index.models.add(name=model.name, version=model.version, state=state, reason=reason)
        return index

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: RequestContext
    ) -> pb.RepositoryModelLoadResponse:
        who = operator(context, "")
        _check_repository(request.repository_name)
        model, version = _named(request.model_name)
        for name in request.parameters:
            # Triton takes configurations and files here.
            said = (
                f"parameter {name[:80]!r} is not taken: a model is loaded as it was published and signed; "
                "publish another version with `headrace models add`"
            )
            raise invalid(Reason.REASON_NOT_ALLOWED, said, parameter=name[:80])
        self._check_reach()
        await self._operations.load(model, version, who, context.deadline_within(_LOAD_S))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: RequestContext
    ) -> pb.RepositoryModelUnloadResponse:
        # `unload_dependents` means the models of an ensemble; no model of this repository has any.
        who = operator(context, "")
        _check_repository(request.repository_name)
        model, version = _named(request.model_name)
        self._check_reach()
        await self._operations.unload(model, version, who, context.deadline_within(_LOAD_S))
        return pb.RepositoryModelUnloadResponse()

    def _check_reach(self) -> None:
        if not self._reaches_all:
            raise Fault(
                Code.FAILED_PRECONDITION,
                Reason.REASON_NOT_ALLOWED,
                "several processes share this door, each with an executor of its own, and the call would change one of "
                "them; load it while there is one process, which later ones go by, or run the services apart",
            )


def _named(text: str) -> tuple[str, str]:
    """Model, and version or label ("" if none is named). Raises Fault INVALID_ARGUMENT."""
    model, colon, version = text.partition(":")
    if model and bool(colon) == bool(version):
        return model, version
    said = f"{text[:80]!r} names no model; send NAME, NAME:VERSION or NAME:LABEL"
    raise invalid(Reason.REASON_MALFORMED_REQUEST, said, field="model_name", value=text[:80])


def _check_repository(name: str) -> None:
    if name:
        said = f"there is one model repository and it has no name; leave out {name[:80]!r}"
        raise invalid(Reason.REASON_MALFORMED_REQUEST, said, field="repository_name", value=name[:80])
