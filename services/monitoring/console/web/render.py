"""Values → a page or JSON. Templates escape everything; JSON is what the template got."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from pydantic_core import to_json
from starlette.responses import Response

from services.monitoring.console.facts import words

FOLDER = Path(__file__).parents[1]
STATIC = FOLDER / "static"
_MARKS = {"good": "✓", "watch": "…", "bad": "✕", "undone": "↺", "none": ""}
# Of an audit entry, in columns of the table.
_COLUMNS = {"at", "event", "pipeline", "model", "version", "number", "author", "who", "operator", "reason"}
_COLUMNS |= {"previous"}
_TEXT = 200


class Renderer:
    """`now`: the present."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Blocks: reads the static files."""
        self._now = now
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals["asset"] = _addresses().__getitem__
        environment.filters |= {
            "share": words.share,
            "count": words.count,
            "rate": words.rate,
            "age": words.age,
            "ago": self._ago,
            "when": when,
            "milliseconds": milliseconds,
            "figure": figure,
            "sparkline": sparkline,
            "progress": progress,
            "mark": _MARKS.__getitem__,
            "entry": entry,
        }
        self._environment = environment

    def page(self, template: str, values: Mapping[str, Any]) -> str:
        """The HTML of a template."""
        return self._environment.get_template(template).render(values)

    def _ago(self, text: str) -> str:
        seconds = (self._now() - datetime.fromisoformat(text)).total_seconds()
        for size, name in words.UNITS:
            if seconds >= size:
                return f"{words.plural(int(seconds // size), name)} ago"
        return "just now"


def as_json(values: Mapping[str, Any], status: int = 200) -> Response:
    """What the page says, for programs. Numbers that JSON does not have become null."""
    return Response(to_json(values, inf_nan_mode="null"), status, media_type="application/json")


def when(text: str) -> str:
    """A time, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def milliseconds(value: float | None) -> str:
    """A time in ms, with three digits; "–": unknown."""
    if value is None:
        return "–"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def figure(value: Any) -> str:
    """A number with three or four digits; of other values, such as pictures and vectors, the beginning."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = "–" if value is None else str(value)
        return text if len(text) <= _TEXT else f"{text[:_TEXT]}… ({len(text)} characters)"
    text = words.count(value) if isinstance(value, int) or abs(value) >= 10_000 else f"{value:.4g}"
    return text.replace("-", "\u2212", 1) if text.startswith("-") else text


def sparkline(values: Sequence[float], width: int = 120, height: int = 28) -> str:
    """The points of an SVG polyline; "": there is nothing to draw."""
    if len(values) < 2:
        return ""
    top = max(values) or 1.0
    step = width / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{height - 2 - (height - 4) * v / top:.1f}" for i, v in enumerate(values))


def progress(evidence: float, needed: float) -> float:
    """How far evidence is, from 0 to 1, on the scale on which it grows: its logarithm."""
    if needed <= 1 or evidence <= 1 or not math.isfinite(needed):
        return 0.0
    return min(math.log(evidence) / math.log(needed), 1.0)


def entry(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The details of an audit entry: what the table's own columns do not say."""
    return [
        (key, str(value)) for key, value in values.items() if key not in _COLUMNS and value not in ("", None)
    ]


def _addresses() -> dict[str, str]:
    """Static file → where a page finds it; another content has another address, so browsers may keep it."""
    names = [str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()]
    digests = {name: sha256((STATIC / name).read_bytes()).hexdigest() for name in names}
    return {name: f"/static/{name}?{digest[:12]}" for name, digest in digests.items()}
