"""The id of a prediction: that of its request, and the position of the row in it. Whoever has the reply knows both."""

from __future__ import annotations

from headrace.hop.request_ids import request_key

_MAX_DIGITS = 9


def prediction_id(request_id: str, row: int) -> str:
    """REQUEST_ID/ROW, by the request's key."""
    return f"{request_id}/{row}"


def split_prediction_id(text: str) -> tuple[str, int]:
    """Key of the request, and row, of an id with the request's key or with its caller's own id. Raises ValueError."""
    request_id, _, row = text.rpartition("/")
    if not request_id or not (row.isascii() and row.isdecimal()) or len(row) > _MAX_DIGITS:
        raise ValueError("a prediction is REQUEST_ID/ROW, where the first row of a request is 0")
    return request_key(request_id), int(row)
