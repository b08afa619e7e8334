"""Whether doors share limits of tenants with those of other machines, as their metrics say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from headrace.cli.supervision import probes

_ALONE = re.compile(rb"^headrace_quota_alone 1", re.MULTILINE)
_DOORS = re.compile(rb"^headrace_quota_doors ([0-9]+)", re.MULTILINE)


def problem(services: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is wrong, of the services that `headrace status` tells of; None: nothing, or nothing is to be shared."""
    places = [s["metrics"] for name, s in services.items() if name.startswith("ingress") and s["metrics"]]
    return asyncio.run(_problem(places))


async def _problem(places: list[str]) -> str | None:
    pages = await asyncio.gather(*map(probes.metrics_page, places))
    alone = [page for page in pages if _ALONE.search(page)]
    if not alone:
        return None
    doors = max(int(found[1]) for page in alone if (found := _DOORS.search(page)))
    return (
        f"limits of tenants are not shared: {len(alone)} of {len(pages)} doors here can't use the Redis of `sharing`, "
        f"so each has 1/{doors} of each limit"
    )
