"""A client of Feast's, in a process of its own: Feast's generated stubs from its wheel, and nothing of ours.

Reads one JSON request a line: {"target", "feature_service" or "features", "entities", "full_feature_names"}; answers with
one JSON line: statuses and values by feature name, or {"code", "details"}.
"""

import json
import sys
from typing import Any

import grpc
from feast.protos.feast.serving import ServingService_pb2 as pb
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value


def value(plain: Any) -> Value:
    if plain is None:
        return Value()
    if isinstance(plain, int):
        return Value(int64_val=plain)
    return Value(double_val=plain) if isinstance(plain, float) else Value(string_val=plain)


def ask(request: dict[str, Any]) -> dict[str, Any]:
    with grpc.insecure_channel(request["target"]) as channel:
        stub = ServingServiceStub(channel)  # type: ignore[no-untyped-call]  # generated without types
        message = pb.GetOnlineFeaturesRequest(full_feature_names=request.get("full_feature_names", False))
        if "features" in request:
            message.features.val.extend(request["features"])
        else:
            message.feature_service = request["feature_service"]
        for field in ("entities", "request_context"):
            for name, values in request.get(field, {}).items():
                getattr(message, field)[name].CopyFrom(RepeatedValue(val=[value(v) for v in values]))
        info = stub.GetFeastServingInfo(pb.GetFeastServingInfoRequest(), timeout=60)
        try:
            reply, call = stub.GetOnlineFeatures.with_call(message, timeout=60)
        except grpc.RpcError as error:
            return {"code": error.code().name, "details": error.details()}
    trailing = {key: found for key, found in call.trailing_metadata() if isinstance(found, str)}
    vectors = zip(reply.metadata.feature_names.val, reply.results, strict=True)
    return {
        "version": info.version,
        "trailing": trailing,
        "features": {
            name: {
                "statuses": [pb.FieldStatus.Name(s) for s in vector.statuses],
                "values": [plain(v) for v in vector.values],
                "times": [t.seconds for t in vector.event_timestamps],
            }
            for name, vector in vectors
        },
    }


def plain(found: Value) -> Any:
    field = found.WhichOneof("val")
    if field is None:
        return None
    inside = getattr(found, field)
    return list(inside.val) if hasattr(inside, "val") else inside


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(ask(json.loads(line))), flush=True)
