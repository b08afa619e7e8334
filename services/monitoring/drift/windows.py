"""The sketches of one series over time: slices of ten seconds, merged to minutes, hours and days. Bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from headrace.sketches import Layout, Sketch

Span: TypeAlias = Literal["slice", "minute", "hour", "day"]

SLICE_S = 10.0
# Length in seconds, and how many that have ended are kept.
_LEVELS: dict[Span, tuple[float, int]] = {
    "slice": (SLICE_S, 12),
    "minute": (60.0, 60),
    "hour": (3600.0, 24),
    "day": (86_400.0, 7),
}
_LONGER: tuple[Span, ...] = ("minute", "hour", "day")
# How long windows are of use, in seconds.
KEPT_S: dict[Span, float] = {span: length * (most + 1) for span, (length, most) in _LEVELS.items()}
# Windows that ended and were not taken yet, by whoever keeps them: those of five minutes, and more where they are rare.
_UNTAKEN = 64


@dataclass(slots=True)
class Window:
    """`start`, `end`: seconds since 1970."""

    start: float
    end: float
    sketch: Sketch


class Ended(NamedTuple):
    """A window that no rows come to any more."""

    span: Span
    window: Window


class Windows:
    """Takes batches in the order of time. One that is late counts in the slice that is open."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._open: dict[Span, Window] = {}
        self._ended: dict[Span, deque[Window]] = {
            span: deque(maxlen=most) for span, (_, most) in _LEVELS.items()
        }
        self._untaken: deque[Ended] = deque(maxlen=_UNTAKEN)

    def at(self, now: float) -> Sketch:
        """The sketch that rows of this moment belong to. Ends the slice that is over."""
        self.end(now)
        return self._window("slice", now).sketch

    def end(self, now: float) -> None:
        """Ends the slice that is over: it is merged into the minute, hour and day that it lies in."""
        ended = self._open.get("slice")
        if ended is None or now < ended.end:
            return
        del self._open["slice"]
        self._end("slice", ended)
        for span in _LONGER:
            window = self._window(span, ended.start)
            if ended.start >= window.end:
                self._end(span, self._open.pop(span))
                window = self._window(span, ended.start)
            window.sketch.merge(ended.sketch)

    def newest(self, rows: int) -> Sketch:
        """The newest windows together that have so many rows, or all there are. The open slice counts, too."""
        found = Sketch(self.layout)
        for window in self._backwards():
            if found.rows >= rows:
                break
            found.merge(window.sketch)
        return found

    def take_ended(self) -> list[Ended]:
        """The windows that ended since the last call; if that was long ago, the newest of them."""
        taken = list(self._untaken)
        self._untaken.clear()
        return taken

    def resume(self, ended: Sequence[Ended], now: float) -> None:
        """Goes on where a process ended that had these windows, the oldest first."""
        for span, window in ended:
            self._ended[span].append(window)
        slices = self._ended["slice"]
        if slices and slices[-1].end > now:
            self._open["slice"] = slices.pop()
        for shorter, span in (("slice", "minute"), ("minute", "hour"), ("hour", "day")):
            self._reopen(shorter, span)  # type: ignore[arg-type]  # both are spans

    def _reopen(self, shorter: Span, span: Span) -> None:
        """Makes the window that was open of the shorter ones that ended in it, and of what the open one of these has."""
        parts = list(self._ended[shorter])
        if shorter != "slice" and shorter in self._open:
            parts.append(self._open[shorter])
        if not parts:
            return
        length, _ = _LEVELS[span]
        start = parts[-1].start // length * length
        ended = self._ended[span]
        if ended and ended[-1].start >= start:
            return
        window = self._window(span, start)
        for part in parts:
            if part.start >= start:
                window.sketch.merge(part.sketch)

    def _end(self, span: Span, window: Window) -> None:
        self._ended[span].append(window)
        self._untaken.append(Ended(span, window))

    def ended(self, span: Span) -> list[Window]:
        """Those that have ended and are kept, the oldest first."""
        return list(self._ended[span])

    def _backwards(self) -> Iterator[Window]:
        """Windows that hold each row once, from the newest on: slices, then minutes, hours and days.

        Those that are open but the slice are left out: the slices that are kept cover the open minute, minutes the open hour.
        """
        begin = float("inf")
        for window in self._every():
            # A longer window that overlaps what was taken holds some of its rows.
            if window.end <= begin:
                yield window
                begin = window.start

    def _every(self) -> Iterator[Window]:
        if "slice" in self._open:
            yield self._open["slice"]
        for span in _LEVELS:
            yield from reversed(self._ended[span])

    def _window(self, span: Span, at: float) -> Window:
        if span not in self._open:
            length, _ = _LEVELS[span]
            start = at // length * length
            self._open[span] = Window(start, start + length, Sketch(self.layout))
        return self._open[span]
