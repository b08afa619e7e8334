"""Bodies of requests: short forms and short JSON, read with a limit and in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request

from headrace.hop.errors import Code, Fault, Reason
from services.monitoring.console import faults

_MAX_BYTES = 16 << 10
_PATIENCE_S = 10.0
_MAX_FIELDS = 20


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form or of a JSON object; of a field that comes twice, the last. Raises Fault."""
    body = await _body(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            found = json.loads(body or b"{}")
            if not isinstance(found, dict):
                raise faults.malformed("(body)", "is no JSON object")
            return {str(k): "" if v is None else str(v) for k, v in found.items()}
        if kind != "application/x-www-form-urlencoded":
            raise faults.malformed("content-type", "send a form (application/x-www-form-urlencoded) or JSON")
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except (ValueError, RecursionError):
        raise faults.malformed("(body)", "can't be read") from None
    return {name: values[-1] for name, values in fields.items()}


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BYTES:
                    message = f"the request's body is larger than {_MAX_BYTES} bytes"
                    limit = {"limit": str(_MAX_BYTES)}
                    raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_TOO_LARGE, message, metadata=limit)
    except (TimeoutError, ClientDisconnect):
        raise faults.malformed("(body)", "did not come in time") from None
    return bytes(body)


def number(fields: Mapping[str, str], name: str) -> int | None:
    """A whole number; None: the field is absent or empty. Raises Fault."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise faults.malformed(name, "is no whole number")
    return int(text)
