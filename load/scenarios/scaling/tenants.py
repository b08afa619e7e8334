"""`scaling tenants`: what a request costs, the more tenants share the ingress, evenly and by Zipf's law."""

from __future__ import annotations

import argparse

import numpy as np

from headrace.state.tenants import TenantSpec
from load.scenarios.scaling.table import Table, flights_target, redis_store
from load.systems.headrace import AMPLE, Setup, configuration, headrace

_EXPONENT = 1.1


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    table = Table("tenants", options)
    with redis_store(options.home) as store:
        first = True
        for shape in options.shapes:
            for count in options.tenants:
                tenants = {f"t{i:04}": TenantSpec(pipelines=("*",), limits=AMPLE) for i in range(count)}
                setup = Setup(options.home, shape, feast=store.feast, tenants=tenants)
                if first:
                    print(configuration(setup))
                    print(f"skewed: the n-th tenant sends in proportion to 1/n^{_EXPONENT}")
                    table.begin()
                    first = False
                with headrace(setup) as running:
                    keys = list(running.keys.values())
                    even = flights_target(running, store, keys=keys)
                    table.add(f"{count}, evenly", running, even)
                    if count > 1:
                        parts = zipf(count)
                        skewed = flights_target(running, store, keys=keys, parts=parts)
                        table.add(f"{count}, skewed (first {parts[0]:.0%})", running, skewed)
    table.end()


def zipf(count: int) -> list[float]:
    """Parts of `count` tenants, largest first."""
    weights = 1 / np.arange(1, count + 1) ** _EXPONENT
    parts: list[float] = (weights / weights.sum()).tolist()
    return parts
