"""The remote backend: models on a server of the Open Inference Protocol (Triton, KServe, or another headrace)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from headrace.hop.call import unary
from headrace.hop.errors import Fault
from headrace.oip import open_inference_pb2 as oip
from headrace.repository import Artifact, TensorSpec
from services.executor.backends.backend import (
    Backend,
    BackendError,
    BackendFactory,
    BackendLateError,
    BackendLostError,
    Capabilities,
    Environment,
    Progress,
    Tensors,
)
from services.executor.backends.oip import ProtocolError, infer_outputs, infer_request, spec_of
from services.executor.backends.servers import Server, Servers
from services.executor.config import ModelSettings

_READY = unary(oip.ModelReadyRequest, oip.ModelReadyResponse, idempotent=True)
_METADATA = unary(oip.ModelMetadataRequest, oip.ModelMetadataResponse, idempotent=True)
_CONFIG = unary(oip.ModelConfigRequest, oip.ModelConfigResponse, idempotent=True)
_INFER = unary(oip.ModelInferRequest, oip.ModelInferResponse, idempotent=True)
_ACTIVATE_S = 5.0


class Remote:
    """`model` on `server`. `version` "": the server chooses."""

    def __init__(self, server: Server, model: str, version: str, inputs: Sequence[TensorSpec]) -> None:
        self._server = server
        self._model = model
        self._version = version
        self._inputs = tuple(inputs)
        self._max_rows: int | None = None
        self._metadata: oip.ModelMetadataResponse | None = None

    @classmethod
    def of(cls, artifact: Artifact, server: str, servers: Servers) -> Remote:
        """The backend that the settings name (`remote:SERVER`), or the artifact of a model that is published for `remote`.

        Such an artifact is JSON: {"server": …, "model": …, "version": …}. Only the settings say which address the server
        has, and with which credential it is called. Raises BackendError.
        """
        about = artifact.metadata
        model, version = about.name, ""
        if not server:
            pointer = _pointer(artifact.content)
            server = pointer.get("server", "")
            model, version = pointer.get("model", model), pointer.get("version", version)
        return cls(servers.server(server), model, version, about.inputs)

    @property
    def name(self) -> str:
        return f"remote:{self._server.name}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self.name, concurrent_runs=True, max_rows=self._max_rows, inline=False)

    def activate(self) -> None:
        self._server.read_key()
        deadline = time.monotonic() + _ACTIVATE_S
        name, version = self._model, self._version
        try:
            ready = self._server.call(_READY, oip.ModelReadyRequest(name=name, version=version), deadline)
            if not ready.ready:
                raise BackendError(f"server {self._server.name!r} has model {name!r}, but it is not ready")
            asked = oip.ModelMetadataRequest(name=name, version=version)
            self._metadata = self._server.call(_METADATA, asked, deadline)
        except (BackendLostError, BackendLateError, Fault) as error:
            raise BackendError(f"{error}; see that it runs and serves model {name!r}") from error
        self._max_rows = self._batch_limit(deadline)

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        if self._metadata is None:
            raise BackendError("the model is not active; call activate() first")
        return [spec_of(t) for t in self._metadata.inputs], [spec_of(t) for t in self._metadata.outputs]

    def run(self, inputs: Tensors, deadline: float) -> Tensors:
        if self._metadata is None:
            raise BackendError("the model is not active; call activate() first")
        rows = len(next(iter(inputs.values())))
        request = infer_request(self._model, self._version, self._inputs, inputs)
        reply = self._server.call(_INFER, request, deadline)
        try:
            return infer_outputs(reply, rows)
        except ProtocolError as error:
            raise BackendLostError(f"server {self._server.name!r}: {error}") from error

    def interrupt(self, started_before: float) -> None:
        self._server.cancel(started_before)

    def deactivate(self) -> None:
        self._server.cancel(time.monotonic())
        self._metadata = None

    def _batch_limit(self, deadline: float) -> int | None:
        """The most rows of one request; None if the server does not say. The call is Triton's, not the protocol's."""
        try:
            asked = oip.ModelConfigRequest(name=self._model, version=self._version)
            reply = self._server.call(_CONFIG, asked, deadline)
        except (BackendLostError, BackendLateError, Fault):
            return None
        return reply.config.max_batch_size or None


def _pointer(content: bytes) -> dict[str, str]:
    try:
        pointer = json.loads(content)
        if isinstance(pointer, dict) and all(isinstance(v, str) for v in pointer.values()):
            return pointer
    except (ValueError, RecursionError):
        pass
    raise BackendError('the artifact of a remote model is JSON such as {"server": "edge", "model": "name"}')


def factory(environment: Environment) -> BackendFactory:
    """Makes backends on other servers. The argument is the server's name in the settings `servers`."""

    def make(artifact: Artifact, _settings: ModelSettings, argument: str, _progress: Progress) -> Backend:
        if environment.servers is None:
            raise BackendError("no server is called here")
        return Remote.of(artifact, argument, environment.servers)

    return make
