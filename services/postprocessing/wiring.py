"""The postprocessing service: a service that runs steps, with a contract of its own."""

from __future__ import annotations

from headrace.api.postprocessing.v1 import postprocessing_pb2 as pb
from headrace.steps.service import step_service

SERVICE = step_service(
    "postprocessing", pb.DESCRIPTOR.services_by_name["PostprocessingService"], pb.FormatResponse
)
