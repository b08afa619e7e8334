"""Windows after traffic that comes and pauses."""

from collections.abc import Sequence

from hypothesis import strategies as st

from headrace.sketches import Layout, NumberColumn
from services.monitoring.drift.windows import Span, Windows
from tests.services.monitoring.drift.drift_monitor import BEGIN

LAYOUT = Layout((NumberColumn("x", edges=(10.0, 20.0)),))
SPANS: tuple[Span, ...] = ("slice", "minute", "hour", "day")
# (seconds since the last batch, its rows).
STEPS = st.lists(st.tuples(st.sampled_from([0, 1, 9, 61, 600, 4000, 90_000]), st.integers(1, 5)), max_size=40)


def filled(
    found: Sequence[tuple[int, int]], now: float = BEGIN, windows: Windows | None = None
) -> tuple[Windows, float]:
    windows = windows or Windows(LAYOUT)
    for wait, rows in found:
        now += wait
        windows.at(now).update({"x": [float(now % 30)] * rows}, rows)
    return windows, now
