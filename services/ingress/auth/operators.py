"""Operators: callers with the scope `operate`, or `operate:PIPELINE` for one pipeline alone."""

from __future__ import annotations

import re

from services.ingress.documents.catalog import require
from services.ingress.faults import malformed_field
from services.ingress.request_context import RequestContext

SCOPE = "operate"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


def operator(context: RequestContext, pipeline: str | None = None) -> str:
    """The caller's name for the audit. Raises Fault: it is no operator of this pipeline; "": of all; None: of any."""
    credential = context.caller
    require(credential, SCOPE, pipeline)
    return f"{credential.tenant.name}/{credential.key_id}"


def operated(pipeline: str, context: RequestContext) -> str:
    """The name of a pipeline that an operator of it asks about. Raises Fault."""
    operator(context)
    context.pipeline = check_name("pipeline", pipeline)
    operator(context, pipeline)
    return pipeline


def check_name(field: str, name: str) -> str:
    """A name may become part of a path, so only names are let through. Raises Fault."""
    if not _NAME.fullmatch(name):
        shown = name[:80]
        said = f"{shown!r} is no name; use letters, digits, '_', '.' and '-', a letter first"
        raise malformed_field(field, said)
    return name
