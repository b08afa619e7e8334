"""`scaling rows`: what a row costs, the more of them a request has; and where the CPU goes, by service."""

from __future__ import annotations

import argparse

from load.profile import Point
from load.scaling import Shares, Table, flights_target, redis_store
from load.systems import Setup, configuration, headrace

_AIM = 25.0
_FROM, _TO = 1, 64


def run(options: argparse.Namespace) -> None:
    """Prints the tables, and whether 64 rows at a time are as many times the rows of one at a time as they should be."""
    table = Table("rows/request", options)
    by_service: list[tuple[int, int, Point, Shares]] = []
    rates: dict[tuple[str, int], float] = {}
    with redis_store(options.home) as store:
        print(configuration(Setup(options.home, options.shapes[0], feast=store.feast)))
        table.begin()
        for shape in options.shapes:
            with headrace(Setup(options.home, shape, feast=store.feast)) as running:
                for each in options.rows:
                    found = table.add(str(each), running, flights_target(running, store, each), each)
                    if 1 in found:
                        rates[shape, each] = found[1][0].rate * each
                    if shape == "apart":
                        by_service += [(each, at_once, *what) for at_once, what in found.items()]
    table.end()
    for shape in options.shapes:
        if (shape, _FROM) in rates and (shape, _TO) in rates:
            print(verdict(shape, rates[shape, _TO] / rates[shape, _FROM]))
    if by_service:
        print("\n" + services_table(by_service))


def verdict(shape: str, times: float) -> str:
    """Rows per second at 64 a request against 1, one caller, in words."""
    held = "holds" if times >= _AIM else "SHORT"
    return f"{shape}, c = 1: {times:.1f} times the rows at {_TO} a request (aim {_AIM:g}: {held})"


def services_table(found: list[tuple[int, int, Point, Shares]]) -> str:
    """µs of CPU per request of each service, by rows a request and concurrency."""
    names = list(found[0][3])
    lines = [f"| rows/request | c | {' | '.join(names)} |", "|--:|--:|" + "--:|" * len(names)]
    for each, at_once, point, parts in found:
        us = point.median(lambda f: f.server_us)
        cells = " | ".join(f"{parts[name] * us:.0f}" for name in names)
        lines.append(f"| {each} | {at_once} | {cells} |")
    return "Server CPU µs of a request by service, apart:\n\n" + "\n".join(lines)
