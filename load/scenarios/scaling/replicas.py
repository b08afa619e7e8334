"""`scaling replicas`: a leaf service as several processes: what that brings, and whether the router deals evenly.

On a machine with fewer cores than processes that are busy it brings nothing; the table says what it costs there.
"""

from __future__ import annotations

import argparse

from load.scenarios.scaling.table import Shares, Table, flights_target, redis_store
from load.systems.headrace import Setup, configuration, headrace


def run(options: argparse.Namespace) -> None:
    """Prints the table, and the part of each replica in its service's CPU."""
    table = Table("replicas", options)
    told: list[str] = []
    with redis_store(options.home) as store:
        print(configuration(Setup(options.home, feast=store.feast)))
        print(f"pipeline {options.pipeline}; one process of each service but for what the first column says")
        table.begin()
        for service, count in _counts(options.services, options.replicas):
            replicas = {service: count} if count > 1 else {}
            with headrace(Setup(options.home, feast=store.feast, replicas=replicas)) as running:
                label = f"{count} × {service}" if replicas else "1 of each"
                target = flights_target(running, store, pipeline=options.pipeline)
                found = table.add(label, running, target)
            if replicas:
                told += [balance(label, service, at_once, what.shares) for at_once, what in found.items()]
    table.end()
    print("\n".join(told))


def _counts(services: list[str], counts: list[int]) -> list[tuple[str, int]]:
    """One of each first, once."""
    return [(services[0], 1), *((s, n) for s in services for n in counts if n > 1)]


def balance(label: str, service: str, at_once: int, parts: Shares) -> str:
    """Each replica's part of what its service used, in words."""
    own = [part for name, part in parts.items() if name.partition(".")[0] == service]
    total = sum(own)
    told = " / ".join(f"{part / total:.0%}" for part in own) if total else "idle"
    return f"{label}, c = {at_once}: the replicas' parts of the CPU of {service}: {told}"
