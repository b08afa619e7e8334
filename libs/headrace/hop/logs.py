"""Structured logs to stderr, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from headrace.hop import config, lean

# Its console renderer takes rich along wherever that is installed: 6 MiB in each process, for prettier tracebacks.
with lean.without("rich"):
    import structlog

# The end of a key decides, so that `token` is hidden and `token_count` is not.
_SECRET_KEY = re.compile(
    r"(?:^|[_.\-])(?:authorization|api[_\-]?key|key[_\-]?secret|tokens?|password|passwd|secret|credentials?|cookie)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(bearer\s+|basic\s+|(?:password|secret|token|api[_\-]?key)\s*[=:]\s*)[^\s&,;\"']{4,}", re.IGNORECASE
)
REDACTED = "[redacted]"
# Of requests in one line: a batch may hold hundreds.
_MOST_IDS = 8

Event = MutableMapping[str, Any]
Ids = Callable[[], Mapping[str, str]]


def some(request_ids: Iterable[str]) -> list[str]:
    """The first few distinct ones, for a line about many rows."""
    found: dict[str, None] = {}
    for identity in request_ids:
        found[identity] = None
        if len(found) == _MOST_IDS:
            break
    return list(found)


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """structlog processor: hides values of secret-looking keys, at any depth, and credentials in texts."""
    for key, value in event.items():
        event[key] = REDACTED if _SECRET_KEY.search(key) else _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\1{REDACTED}", value)
    if isinstance(value, Mapping):
        return {k: REDACTED if _SECRET_KEY.search(str(k)) else _clean(v) for k, v in value.items()}
    if (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and _SECRET_KEY.search(value[0])
    ):
        return (value[0], REDACTED)  # a metadata pair
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value


def logger(service: str, settings: config.Telemetry, ids: Ids | None = None) -> Any:
    """A structlog logger of one service. `ids` gives the trace and span of the moment."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[*_processors(ids), _renderer(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        context_class=dict,
    ).bind(service=service)


def take_over(service: str, settings: config.Telemetry, ids: Ids | None = None) -> None:
    """Sends all that this process logs, through stdlib or structlog, the same way. For a main, once."""
    shared = _processors(ids)
    structlog.configure(
        processors=[*shared, _renderer(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

    def name_service(_logger: Any, _method: str, event: Event) -> Event:
        event.setdefault("service", service)
        return event

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[name_service, structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_level(settings), logging.INFO))


def _processors(ids: Ids | None) -> list[Any]:
    def add_ids(_logger: Any, _method: str, event: Event) -> Event:
        if ids is not None:
            event.update(ids())
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]


def _renderer(settings: config.Telemetry) -> Any:
    if settings.log_format == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer()


def _level(settings: config.Telemetry) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]
