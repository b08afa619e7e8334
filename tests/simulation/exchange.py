"""One request at the door, as Envoy brings it to the application: a message in pieces, an answer, a caller who may leave."""

import asyncio
import json
import struct
from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.hop.errors import Code
from headrace.oip import open_inference_pb2 as oip
from services.ingress.protocols.asgi import Application
from tests.simulation.cases import Caller
from tests.simulation.network import arrival
from tests.simulation.system import System, key_of
from tests.simulation.virtual_time import OUTSIDE, PROCESS

# What the document puts in the place of a feature.
_ABSENT = -1.0
_SERVICE = "/headrace.api.inference.v1.InferenceService/"
PATHS = {
    "predict": _SERVICE + "Predict",
    "json": _SERVICE + "Predict",
    "explain": _SERVICE + "Explain",
    "list": _SERVICE + "ListPipelines",
    "infer": "/inference.GRPCInferenceService/ModelInfer",
}


class Request(NamedTuple):
    """`values`: x of each row, far enough apart that no row's answer is right for another."""

    caller: Caller
    number: int
    values: Sequence[float]

    @property
    def keys(self) -> list[str]:
        return ["k" * (1 + int(x) % 7) for x in self.values]

    def body(self) -> bytes:
        kind, pipeline = self.caller.kind, self.caller.pipeline
        rows = [{"key": k, "x": x} for k, x in zip(self.keys, self.values, strict=True)]
        if kind == "json":
            return json.dumps({"pipeline": pipeline, "rows": rows}).encode()
        message: Any
        if kind == "infer":
            message = oip.ModelInferRequest(model_name=pipeline, id=str(self.number))
            message.inputs.add(name="key", datatype="BYTES", shape=[len(rows)])
            message.inputs.add(name="x", datatype="FP32", shape=[len(rows)])
            texts = b"".join(struct.pack("<I", len(k)) + k.encode() for k in self.keys)
            message.raw_input_contents.extend([texts, np.array(self.values, "<f4").tobytes()])
        elif kind == "list":
            message = pb.ListPipelinesRequest()
        else:
            message = (pb.ExplainRequest if kind == "explain" else pb.PredictRequest)(pipeline=pipeline)
            for row in rows:
                message.rows.add().update(row)
        data: bytes = message.SerializeToString()
        return struct.pack(">BI", 0, len(data)) + data

    def scope(self) -> dict[str, Any]:
        json_form = self.caller.kind == "json"
        milliseconds = f"{self.caller.deadline_s * 1000:.0f}".encode()
        headers = [
            (b"content-type", b"application/json" if json_form else b"application/grpc"),
            (b"authorization", b"Bearer " + key_of(self.caller.tenant).encode()),
            (b"x-request-id", f"{self.caller.tenant}-{self.number}".encode()),
            (b"connect-timeout-ms", milliseconds) if json_form else (b"grpc-timeout", milliseconds + b"m"),
        ]
        return {
            "type": "http",
            "method": "POST",
            "path": PATHS[self.caller.kind],
            "query_string": b"",
            "headers": headers,
        }

    def right(self, answered: Sequence[float]) -> bool:
        """Whether each y is x and the length of its key, or the value that stands for a feature which could not be read."""
        return len(answered) == len(self.values) and all(
            y - x in (len(key), _ABSENT) for y, x, key in zip(answered, self.values, self.keys, strict=True)
        )

    def answered(self, body: bytes) -> list[float]:
        """y of each row; of requests without answers of rows, what would be right."""
        kind = self.caller.kind
        if kind == "json":
            return [row["outputs"]["y"] for row in json.loads(body)["predictions"]]
        if kind == "infer":
            reply = oip.ModelInferResponse.FromString(body[5:])
            at = [output.name for output in reply.outputs].index("y")
            return list(np.frombuffer(reply.raw_output_contents[at], "<f4"))
        if kind == "predict":
            return [
                cast("float", p.outputs["y"]) for p in pb.PredictResponse.FromString(body[5:]).predictions
            ]
        return [x + _ABSENT for x in self.values]


class Exchange:
    """`done`: the code that was answered; None if the door died first."""

    def __init__(self, system: System, request: Request, pieces: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        self.request, self._pieces = request, list(pieces)
        self.door = system.door.process
        self.left = self.sent = False
        self.began = asyncio.get_running_loop().time()
        self.done: asyncio.Future[Code | None] = loop.create_future()
        self.body = b""
        self._events: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._whole = self._awaits_trailers = False
        self._headers: dict[bytes, bytes] = {}
        context = OUTSIDE.copy()
        context.run(PROCESS.set, self.door)
        assert system.application is not None, "the door is up"
        self._come()
        self.task = loop.create_task(self._serve(system.application), context=context)

    async def _serve(self, application: Application) -> None:
        # Of a door that stands still it has not come yet.
        self.began = asyncio.get_running_loop().time()
        await application(self.request.scope(), self._receive, self._send)

    def _come(self) -> None:
        """The next piece of the message is here."""
        if self._pieces:
            piece = self._pieces.pop(0)
            self._events.put_nowait({"type": "http.request", "body": piece, "more_body": bool(self._pieces)})
            asyncio.get_running_loop().call_at(arrival(), self._come, context=OUTSIDE.copy())

    def leave(self) -> None:
        """The caller goes away."""
        self.left = True
        self._events.put_nowait({"type": "http.disconnect"})

    async def _receive(self) -> MutableMapping[str, Any]:
        """As pyvoy's: after the end of the message it says at once whether the caller is still there."""
        if self._whole:
            return {"type": "http.disconnect"} if self.left else {"type": "http.request", "body": b""}
        event = await self._events.get()
        self._whole = not event.get("more_body", False)
        return event

    async def _send(self, event: MutableMapping[str, Any]) -> None:
        self._headers |= dict(event.get("headers", ()))
        self.body += event.get("body", b"")
        kind = event["type"]
        trailers = kind == "http.response.trailers"
        ends = kind == "http.response.body" and not event.get("more_body") and not self._awaits_trailers
        if kind == "http.response.start":
            self._awaits_trailers, self._status = event.get("trailers", False), event["status"]
        elif (trailers or ends) and not self.sent:
            self.sent = True
            if not self.done.done():
                self.done.set_result(self._code())

    def _code(self) -> Code:
        if self.request.caller.kind != "json":
            return Code(int(self._headers[b"grpc-status"]))
        return Code.OK if self._status == 200 else Code[json.loads(self.body)["code"].upper()]

    def lost(self) -> None:
        """The door died."""
        if not self.done.done():
            self.done.set_result(None)
