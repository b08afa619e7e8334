"""Recordings of what a router answered, as files that a replay reads: their format, a writer that is bounded, a reader."""

from headrace.recordings.frames import RecordingError, read_frames
from headrace.recordings.record import Record, decode_record, encode_record, read_records
from headrace.recordings.writer import SegmentWriter

__all__ = [
    "Record",
    "RecordingError",
    "SegmentWriter",
    "decode_record",
    "encode_record",
    "read_frames",
    "read_records",
]
