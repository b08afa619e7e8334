"""`leases`: what limits of a tenant cost a request at the door: µs of CPU to count it, and what an exchange with Redis adds."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from prometheus_client import CollectorRegistry

from headrace.state.redis import RedisCalls
from headrace.state.tenants import QuotaSpec
from load.systems.redis_store import redis_server
from services.ingress.admission.quotas import Quotas
from services.ingress.admission.shared_counters import SharedCounters
from services.ingress.documents.catalog import Tenant
from services.ingress.sharing.exchange import Exchange
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.quotas import EVERY_S, LeasedQuotas

_AT_ONCE = 2000
# Nothing is refused.
_LIMITS = QuotaSpec(rows_per_s=1e9, bytes_per_s=1e12, concurrency=1_000_000)


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    asyncio.run(_measured(options.tenants, options.runs))


async def _measured(counts: list[int], runs: int) -> None:
    with TemporaryDirectory() as folder, redis_server(Path(folder)) as server:
        calls = RedisCalls(f"redis://127.0.0.1:{server.port}", 5.0, time.monotonic)
        leased = LeasedQuotas(
            Exchange(calls, "door"), time.monotonic, ShareMetrics(CollectorRegistry()), structlog.get_logger()
        )
        await leased.start()
        kinds = {
            "one process": Quotas(time.monotonic),
            "processes of one machine": Quotas(time.monotonic, SharedCounters(Path(folder) / "counters")),
            "leases": leased.quotas,
        }
        who = Tenant("t0", frozenset("*"), _LIMITS, 1)
        took: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(runs):
            for name, quotas in kinds.items():
                took[name].append(_request_us(quotas, who))
            await leased.look()
        print("| a request | µs of CPU, median | lowest |\n|---|--:|--:|")
        for name, each in took.items():
            print(f"| {name} | {statistics.median(each):.2f} | {min(each):.2f} |")
        print("\n| tenants that ask | µs of the door's CPU an exchange | part of a core |\n|--:|--:|--:|")
        for count in counts:
            us = await _exchange_us(leased, count, runs)
            print(f"| {count} | {us:.0f} | {us / 1e6 / EVERY_S:.2%} |", flush=True)
        await calls.close()


def _request_us(quotas: Quotas, who: Tenant) -> float:
    began = time.process_time()
    for _ in range(_AT_ONCE):
        quota = quotas.acquire(who)
        quota.charge(1, 200)
        quota.release()
    return (time.process_time() - began) / _AT_ONCE * 1e6


async def _exchange_us(leased: LeasedQuotas, count: int, runs: int) -> float:
    """Median of exchanges in which so many tenants renew their leases."""
    who, took = [Tenant(f"t{i}", frozenset("*"), _LIMITS, 1) for i in range(count)], []
    for _ in range(runs):
        for tenant in who:
            quota = leased.quotas.acquire(tenant)
            quota.charge(1, 200)
            quota.release()
        began = time.process_time()
        await leased.look()
        took.append((time.process_time() - began) * 1e6)
    return statistics.median(took)
