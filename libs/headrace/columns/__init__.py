"""Batches of named columns, seen as NumPy arrays without copies.

`Batch` is what services compute on; `encode`/`decode` turn it into the message that hops carry and back.
"""

from headrace.columns.batch import ANNOTATION, Batch, RowError, Rows, Timing, concat
from headrace.columns.column import Column, Ragged
from headrace.columns.dtypes import DType
from headrace.columns.wire import decode, decode_columns, encode, encode_columns, encode_into

__all__ = [
    "ANNOTATION",
    "Batch",
    "Column",
    "DType",
    "Ragged",
    "RowError",
    "Rows",
    "Timing",
    "concat",
    "decode",
    "decode_columns",
    "encode",
    "encode_columns",
    "encode_into",
]
