"""The preprocessing service: a service that runs steps, with a contract of its own."""

from __future__ import annotations

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.steps.service import step_service

SERVICE = step_service(
    "preprocessing", pb.DESCRIPTOR.services_by_name["PreprocessingService"], pb.TransformResponse
)
