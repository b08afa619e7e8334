"""The model repository extension in REST's form: /v2/repository/index, /v2/repository/models/NAME/load and …/unload."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from headrace.oip import open_inference_pb2 as pb
from services.ingress.faults import malformed
from services.ingress.protocols.rest.tensors import read_object

_INDEX = "/v2/repository/index"
_CHANGE = re.compile(r"/v2/repository/models/(?P<model>[^/]+)/(?P<action>load|unload)\Z")
_CHANGES: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "load": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest),
    "unload": ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest),
}
# Maximum size of one request: it has only a few parameters.
_MAX_VALUES = 10_000


def find(path: str) -> tuple[str, Callable[[bytes], Message]] | None:
    """Name of the RPC for `path`, and the function that makes its request from a body; None if there is no RPC for it.

    All are POST. The function raises Fault INVALID_ARGUMENT.
    """
    if path == _INDEX:
        return "RepositoryIndex", _index
    found = _CHANGE.match(path)
    if found is None:
        return None
    rpc, kind = _CHANGES[found["action"]]
    return rpc, lambda body: _with_parameters(kind(model_name=found["model"]), body)


def _index(body: bytes) -> pb.RepositoryIndexRequest:
    ready = _object(body).get("ready", False)
    if not isinstance(ready, bool):
        raise malformed("`ready` is true or false")
    return pb.RepositoryIndexRequest(ready=ready)


def _with_parameters(request: Any, body: bytes) -> Message:
    """With the names of parameters alone: a load takes none, and an unload ignores them."""
    given = _object(body).get("parameters", {})
    if not isinstance(given, dict):
        raise malformed("`parameters` is an object")
    for name in given:
        request.parameters[name].bool_param = True
    made: Message = request
    return made


def _object(body: bytes) -> dict[str, Any]:
    return read_object(body, _MAX_VALUES) if body.strip(b" \t\r\n") else {}
