"""What a ModelInfer request says besides its inputs: version, priority, timeout, wanted outputs."""

from __future__ import annotations

from headrace.hop.errors import Reason
from headrace.oip import open_inference_pb2 as pb
from services.ingress.documents.catalog import Entry
from services.ingress.faults import invalid
from services.ingress.inference import read_timeout


def read_version(text: str) -> int:
    """Version number of a pipeline; 0 (the current one) for "". Raises Fault INVALID_ARGUMENT."""
    if not text:
        return 0
    if text.isascii() and text.isdecimal() and len(text) < 19 and int(text) > 0:
        return int(text)
    raise invalid(
        Reason.REASON_VERSION_UNKNOWN, f"version {text[:40]!r} is not a positive integer", version=text[:40]
    )


def parameters(request: pb.ModelInferRequest) -> tuple[int, float]:
    """(priority, 0 = the tenant's; timeout in seconds, inf = none). Unknown parameters are ignored, as in Triton."""
    given = request.parameters
    priority, timeout = 0, 0
    if "priority" in given:
        value = given["priority"]
        priority = value.uint64_param or max(value.int64_param, 0)
    if "timeout" in given:
        value = given["timeout"]
        timeout = value.int64_param or min(value.uint64_param, 1 << 62)
    return min(priority, 10), read_timeout(timeout)


def wanted_outputs(request: pb.ModelInferRequest, entry: Entry) -> list[str]:
    """Names of the outputs that a request asks for; all if it names none.

    Raises Fault INVALID_ARGUMENT for an unknown name, or an extension that headrace does not have.
    """
    if not request.outputs:
        return list(entry.outputs)
    names = []
    for output in request.outputs:
        name = output.name
        if name not in entry.outputs:
            known = ", ".join(entry.outputs)
            raise invalid(
                Reason.REASON_INPUT_UNKNOWN,
                f"no output {name[:80]!r}; pipeline {entry.pipeline.name} has the outputs {known}",
                output=name[:80],
                outputs=known,
            )
        for extension in ("classification", "shared_memory_region"):
            if extension in output.parameters:
                raise invalid(
                    Reason.REASON_MALFORMED_REQUEST,
                    f"output {name}: {extension} is not supported",
                    output=name,
                    parameter=extension,
                )
        names.append(name)
    return names
