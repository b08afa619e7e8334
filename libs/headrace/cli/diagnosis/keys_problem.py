"""What is wrong with the keys that a home's files are sealed with: as its commands see it, and as its services say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import probes
from headrace.encryption import KeysAwayError, KeysProblem
from headrace.encryption.kms.file_kms import FileKms
from headrace.hop.config import ConfigError

_SAID = re.compile(rb'^headrace_encryption_keys_problem\{problem="([a-z_]+)"\} 1', re.MULTILINE)


def look(layout: Layout, services: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """`problem` (a value of KeysProblem, or `settings`), `error`, `remedy`, and the `services` that say so; None: nothing.

    `services`: as `headrace status` tells of them. What they say is up to half a minute old. A token
    is not asked: each try with a wrong PIN brings it nearer to locking itself.
    """
    try:
        settings = encryption_place.settings(layout)
    except ConfigError as error:
        return _told("settings", str(error), "mend the file", [])
    if settings is None:
        return None
    said = asyncio.run(_said(services))
    if settings.file is not None:
        try:
            FileKms(settings.file, settings.name).current()
        except KeysAwayError as error:
            return _told(error.problem, str(error), error.problem.remedy, sorted(said))
    if not said:
        return None
    problem = said[min(said)]
    why = f"{', '.join(sorted(said))} can't use them ({problem.replace('_', ' ')})"
    return _told(problem, why, problem.remedy, sorted(said))


def _told(problem: str, error: str, remedy: str, services: list[str]) -> dict[str, Any]:
    return {"problem": problem, "error": error, "remedy": remedy, "services": services}


async def _said(services: Mapping[str, Mapping[str, Any]]) -> dict[str, KeysProblem]:
    """By process, why it can't use the keys."""
    places = {name: str(found["metrics"]) for name, found in services.items() if found["metrics"]}
    pages = await asyncio.gather(*map(probes.metrics_page, places.values()))
    found = zip(places, map(_SAID.search, pages), strict=True)
    return {name: KeysProblem(said[1].decode()) for name, said in found if said is not None}
