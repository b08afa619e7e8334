"""Ages counted for a batch at once are those of each row."""

from bisect import bisect_left
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.features.freshness.freshness import Source, ViewResult
from services.features.metrics import RowMetrics
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import ViewPlan

EDGES_S = [1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400, 172800, 604800, 2592000, 7776000]
AGES = st.integers(-1, 10**13) | st.sampled_from([-1, 0, *[edge * 1_000_000 for edge in EDGES_S]])
VIEW = ViewPlan("v", "v", (), (), 0.0)
ROWS = st.lists(st.tuples(st.sampled_from(list(Source)), AGES), max_size=12)


@given(st.lists(ROWS, max_size=4))
def test_a_histogram_of_batches_is_that_of_their_rows(batches: list[list[tuple[Source, int]]]) -> None:
    registry = CollectorRegistry()
    metrics = RowMetrics(registry)
    counts, total = [0] * (len(EDGES_S) + 1), 0.0
    for rows in batches:
        result = ViewResult(VIEW, EntityKeys([], None), [])
        sources, ages = [source for source, _ in rows], [age for _, age in rows]
        result.sources, result.ages_us = bytes(sources), np.array(ages, np.int64)
        metrics.add([result])
        for age in filter((-1).__lt__, ages):
            counts[bisect_left(EDGES_S, age / 1_000_000)] += 1
            total += age / 1_000_000

    def read(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"headrace_features_{name}", {"view": "v", **labels}) or 0

    names = [*[str(float(edge)) for edge in EDGES_S], "+Inf"]
    assert [read("age_seconds_bucket", le=name) for name in names] == list(accumulate(counts))
    assert read("age_seconds_sum") == pytest.approx(total)
    for source in Source:
        count = sum(s is source for rows in batches for s, _ in rows)
        assert read("rows_total", source=source.name.lower()) == count
