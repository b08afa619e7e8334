"""Values → a page or JSON. Templates escape everything; JSON is what the template got."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from starlette.responses import Response

from services.monitoring.console.facts import words

FOLDER = Path(__file__).parents[1]
_LEVELS = {
    "good": ("✓", "good"),
    "watch": ("…", "watch"),
    "bad": ("✕", "bad"),
    "undone": ("↺", "undone"),
    "none": ("", "none"),
}


class Renderer:
    """`asset`: name of a static file → its address. `now`: the present."""

    def __init__(self, asset: Callable[[str], str], now: Callable[[], datetime]) -> None:
        self._now = now
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.globals["asset"] = asset
        environment.filters |= {
            "share": words.share,
            "count": words.count,
            "rate": words.rate,
            "ago": self._ago,
            "when": when,
            "milliseconds": milliseconds,
            "figure": figure,
            "sparkline": sparkline,
            "progress": progress,
            "mark": lambda level: _LEVELS[level][0],
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
    content = json.dumps(_finite(values), ensure_ascii=False, allow_nan=False).encode()
    return Response(content, status, media_type="application/json")


def when(text: str) -> str:
    """A time, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def milliseconds(value: float | None) -> str:
    """A time in ms, with three digits; "–": unknown."""
    if value is None:
        return "–"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def figure(value: Any) -> str:
    """A number with three or four digits; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
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
    shown = {
        "at",
        "event",
        "pipeline",
        "model",
        "version",
        "number",
        "author",
        "who",
        "operator",
        "reason",
        "previous",
    }
    return [
        (key, str(value)) for key, value in values.items() if key not in shown and value not in ("", None)
    ]


class Assets:
    """The static files, in memory: nothing else of the disk can be asked for."""

    _TYPES: Mapping[str, str] = {
        ".js": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
        ".LICENSE": "text/plain",
    }

    def __init__(self) -> None:
        """Blocks: reads the files."""
        root = FOLDER / "static"
        self._files = {
            str(path.relative_to(root)): (path.read_bytes(), self._TYPES[path.suffix])
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.suffix in self._TYPES
        }
        self._tags = {
            name: hashlib.sha256(content).hexdigest()[:12] for name, (content, _) in self._files.items()
        }

    def address(self, name: str) -> str:
        """Where a page finds it; another content has another address, so browsers may keep it."""
        return f"/static/{name}?{self._tags[name]}"

    def response(self, name: str) -> Response | None:
        """None: there is no such file."""
        if name not in self._files:
            return None
        content, kind = self._files[name]
        return Response(content, media_type=kind, headers={"cache-control": "public, max-age=86400"})


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
