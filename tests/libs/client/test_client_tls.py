"""The SDK against a server with a certificate, as Envoy shows one."""

from __future__ import annotations

from pathlib import Path

import grpc

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import AsyncHeadrace, UnavailableError
from tests.libs.hop.hop_certificates import Authority


async def _predict(request: pb.PredictRequest, context: object) -> pb.PredictResponse:
    return pb.PredictResponse(request_id=request.request_id, pipeline=request.pipeline)


async def test_the_certificate_is_checked(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("door", "predict.example.com")
    stranger = Authority(tmp_path, "stranger")
    handler = grpc.unary_unary_rpc_method_handler(
        _predict, pb.PredictRequest.FromString, pb.PredictResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "headrace.api.inference.v1.InferenceService", {"Predict": handler}
            )
        ]
    )
    credentials = grpc.ssl_server_credentials([(files.key.read_bytes(), files.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        target, name = f"127.0.0.1:{port}", "predict.example.com"
        async with AsyncHeadrace(target, ca=files.ca, server_name=name, key="k") as client:
            assert (await client.predict("flights", {"x": 1})).pipeline == "flights"
        for ca, wrong in ((stranger.ca, name), (files.ca, "other.example.com")):
            async with AsyncHeadrace(target, ca=ca, server_name=wrong) as client:
                try:
                    await client.predict("flights", {"x": 1}, timeout_s=2)
                except UnavailableError:
                    continue
                raise AssertionError("a certificate was believed that must not be")
    finally:
        await server.stop(None)
