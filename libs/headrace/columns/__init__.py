"""Batches of named columns, as NumPy arrays without copies.

Services compute on a `Batch`; `encode` and `decode` convert it to the message sent between services, and back.
"""

from headrace.columns.batch import ANNOTATION, Batch, RowError, Rows, Timing, concat
from headrace.columns.column import Column, DType, Ragged
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
