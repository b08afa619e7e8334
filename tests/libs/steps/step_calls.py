"""The two RPCs that run steps, as a client calls them."""

from headrace.api.postprocessing.v1 import postprocessing_pb2 as post
from headrace.api.preprocessing.v1 import preprocessing_pb2 as pre
from headrace.hop.call import unary

TRANSFORM = unary(
    pre.DESCRIPTOR,
    "PreprocessingService",
    "Transform",
    pre.TransformRequest,
    pre.TransformResponse,
    idempotent=True,
)
FORMAT = unary(
    post.DESCRIPTOR,
    "PostprocessingService",
    "Format",
    post.FormatRequest,
    post.FormatResponse,
    idempotent=True,
)
