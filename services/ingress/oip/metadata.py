"""What the Open Inference Protocol reports about a pipeline: metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.columns import DType
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline import InputField, OutputField
from services.ingress.documents.catalog import Entry
from services.ingress.reporting.reporter import PipelineCounts

EXTENSIONS = ("model_configuration", "model_repository", "statistics", "binary_tensor_data", "parameters")
PLATFORM = "headrace_pipeline"
_Tensor = pb.ModelMetadataResponse.TensorMetadata
_CONFIG_TYPES = {d: "TYPE_STRING" if d is DType.BYTES else f"TYPE_{d.oip}" for d in DType}


def metadata(entry: Entry) -> pb.ModelMetadataResponse:
    """Tensors with their shapes, batch dimension first; a scalar is a row of one element."""
    pipeline = entry.pipeline
    return pb.ModelMetadataResponse(
        name=pipeline.name,
        versions=[str(pipeline.version)],
        platform=PLATFORM,
        inputs=_tensors(pipeline.inputs),
        outputs=_tensors(pipeline.outputs),
    )


def _tensors(fields: Iterable[InputField | OutputField]) -> list[_Tensor]:
    return [_Tensor(name=f.name, datatype=f.dtype.oip, shape=[-1, *(f.row_shape or (1,))]) for f in fields]


def configuration(entry: Entry, max_rows: int) -> pb.ModelConfig:
    """The pipeline as a Triton model configuration. Requests are batched together, so it has dynamic batching."""
    pipeline = entry.pipeline
    return pb.ModelConfig(
        name=pipeline.name,
        platform=PLATFORM,
        backend="headrace",
        max_batch_size=max_rows,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        input=[
            pb.ModelInput(
                name=f.name,
                data_type=_CONFIG_TYPES[f.dtype],
                dims=f.row_shape or (1,),
                optional=not f.required,
            )
            for f in pipeline.inputs
        ],
        output=[
            pb.ModelOutput(name=f.name, data_type=_CONFIG_TYPES[f.dtype], dims=f.row_shape or (1,))
            for f in pipeline.outputs
        ],
        dynamic_batching=pb.ModelDynamicBatching(),
        parameters={"revision": pb.ModelParameter(string_value=pipeline.revision)},
    )


def statistics(entry: Entry, counts: PipelineCounts) -> pb.ModelStatistics:
    """Counts and times of one pipeline since this process began."""
    return pb.ModelStatistics(
        name=entry.pipeline.name,
        version=str(entry.pipeline.version),
        last_inference=counts.last_ms,
        inference_count=counts.rows,
        execution_count=round(counts.executions),
        inference_stats=pb.InferStatistics(
            success=_duration(counts.successes, counts.success_s),
            fail=_duration(counts.failures, counts.fail_s),
            queue=_duration(counts.successes, counts.queue_s),
            compute_input=_duration(counts.successes, counts.compute_input_s),
            compute_infer=_duration(counts.successes, counts.compute_infer_s),
            compute_output=_duration(counts.successes, counts.compute_output_s),
        ),
    )


def _duration(count: int, seconds: float) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=round(seconds * 1e9))
