"""Structured logs to stderr, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, TextIO, cast
from weakref import WeakKeyDictionary

from headrace.hop import config
from headrace.hop.process import memory

# structlog's console renderer imports rich if it is installed: 6 MiB in each process, only for prettier tracebacks.
with memory.without("rich"):
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
# Request ids in one line: a batch may have hundreds.
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


class Outlet:
    """Writes lines to a stream and never raises for a full disk: a log line must not make the logged work fail.

    Takes whole lines, as structlog's WriteLogger (not its PrintLogger) writes them. Lines that could not be written are
    counted, and the next line that can be written is preceded by their number.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Unbuffered where possible: a buffer would keep half of a failed line, and raise again when the process ends.
        # (With PYTHONUNBUFFERED, `buffer` is the raw stream itself.)
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        self._raw = raw if isinstance(raw, io.RawIOBase) else None
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False  # the last line was only partly written

    def write(self, text: str) -> int:
        """Writes a line, whole, or counts it as lost."""
        with self._lock:
            self._write(text)
        return len(text)

    def _write(self, text: str) -> None:
        if self._lost:
            told = json.dumps({"event": "log lines lost", "count": self._lost, "level": "warning"})
            text = f"{told}\n{text}"
        if self._torn:
            text = f"\n{text}"
        try:
            self._put(text)
        except OSError:
            self._lost += 1
        else:
            self._lost, self._torn = 0, False

    def flush(self) -> None:
        """Nothing to do: this class has no buffer."""

    def _put(self, text: str) -> None:
        if self._raw is None:
            self._stream.write(text)
            self._stream.flush()
            return
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            # The kernel writes only a part if the disk has room for no more.
            written = self._raw.write(rest)
            if not written:
                raise BlockingIOError
            self._torn = True
            rest = rest[written:]


# One per stream, shared by all loggers, so that lost lines are counted together.
_outlets: WeakKeyDictionary[TextIO, Outlet] = WeakKeyDictionary()


def _outlet(stream: TextIO) -> TextIO:
    if stream not in _outlets:
        _outlets[stream] = Outlet(stream)
    return cast("TextIO", _outlets[stream])  # loggers use only write and flush


def logger(service: str, settings: config.Telemetry, ids: Ids | None = None) -> Any:
    """A structlog logger of one service. `ids` gives the current trace and span."""
    return structlog.wrap_logger(
        structlog.WriteLogger(_outlet(sys.stderr)),
        processors=[*_processors(ids), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        context_class=dict,
    ).bind(service=service)


def take_over(service: str, settings: config.Telemetry, ids: Ids | None = None) -> None:
    """Sends all logs of this process, from stdlib or structlog, through the same processors. Call it once, in a main."""
    shared = _processors(ids)
    outlet = _outlet(sys.stderr)
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(_level(settings)),
        logger_factory=structlog.WriteLoggerFactory(outlet),
        cache_logger_on_first_use=True,
    )

    def name_service(_logger: Any, _method: str, event: Event) -> Event:
        event.setdefault("service", service)
        return event

    handler = logging.StreamHandler(outlet)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[name_service, structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
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


def _level(settings: config.Telemetry) -> int:
    return logging.getLevelNamesMapping()[settings.log_level.upper()]
