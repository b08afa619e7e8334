"""Element types: their number on the wire, their NumPy form and their Open Inference Protocol name."""

from __future__ import annotations

import enum

import numpy as np


class DType(enum.IntEnum):
    """Numbered as headrace.api.batch.v1.DataType."""

    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FLOAT16 = 10
    FLOAT32 = 11
    FLOAT64 = 12
    BYTES = 13

    # Enum's own hash runs Python code; types are part of the key of every call that waits in a batcher.
    __hash__ = int.__hash__

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """NumPy type of one element, little-endian; object for BYTES."""
        return _NUMPY[self]

    @property
    def oip(self) -> str:
        """Name in the Open Inference Protocol: FP32, INT64, BYTES …"""
        return _OIP[self]

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type; 0 and 1 for BOOL. Raises TypeError for any other type."""
        kind = self.numpy.kind
        if kind not in "iub":
            raise TypeError(f"{self.name} is no integer type")
        bits = 1 if kind == "b" else 8 * self.numpy.itemsize
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i" else (0, (1 << bits) - 1)

    @property
    def is_float(self) -> bool:
        return DType.FLOAT16 <= self <= DType.FLOAT64


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.BOOL: np.dtype("bool"),
    DType.UINT8: np.dtype("u1"),
    DType.UINT16: np.dtype("<u2"),
    DType.UINT32: np.dtype("<u4"),
    DType.UINT64: np.dtype("<u8"),
    DType.INT8: np.dtype("i1"),
    DType.INT16: np.dtype("<i2"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.FLOAT16: np.dtype("<f2"),
    DType.FLOAT32: np.dtype("<f4"),
    DType.FLOAT64: np.dtype("<f8"),
    DType.BYTES: np.dtype("object"),
}
_BY_NUMBER = {int(d): d for d in DType}
_OIP = {d: d.name.replace("FLOAT", "FP") for d in DType}
_BY_NUMPY = {v: k for k, v in _NUMPY.items()}
_BY_OIP = {v: k for k, v in _OIP.items()}


def of_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The DType of a NumPy type; text and byte strings are BYTES. Raises TypeError for any other kind."""
    if dtype.kind in "SU":
        return DType.BYTES
    found = _BY_NUMPY.get(dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype)
    if found is None:
        raise TypeError(f"no column type for NumPy's {dtype}")
    return found


def of_number(number: int) -> DType | None:
    """The DType with that number on the wire; None if there is none."""
    return _BY_NUMBER.get(number)


def of_oip(name: str) -> DType | None:
    """The DType with that Open Inference Protocol name; None if there is none, as for BF16."""
    return _BY_OIP.get(name)
