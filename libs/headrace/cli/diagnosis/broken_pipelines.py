"""Which releases can't be served, read as the router reads them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.pipeline import Problem
from headrace.releases import ReleaseError, ReleaseStore
from headrace.releases.catalog import Released, released
from headrace.releases.inputs import check_inputs

FIX = "headrace release history PIPELINE shows them; release what is right anew: headrace release deploy PIPELINE"


@dataclass(frozen=True, slots=True)
class Found:
    """`released`: by pipeline, what its newest release serves; `broken`: what is wrong with it; `away`: why nothing is known."""

    released: dict[str, Released] = field(default_factory=dict)
    broken: dict[str, Problem] = field(default_factory=dict)
    away: tuple[Problem, ...] = ()


def look(layout: Layout) -> Found:
    """What is live, as the router would read it now. Raises ConfigError: control does not run here, or its address is wrong."""
    found = Found()
    with closing(control_place.releases(layout)) as store:
        try:
            for name in store.pipelines():
                _look(store, name, found)
        except OSError as error:
            problem = f"can't be reached: {error.strerror or type(error).__name__}"
            return Found(away=(Problem("releases", 1, "(store)", problem),))
    return found


def _look(store: ReleaseStore, name: str, found: Found) -> None:
    release, broken = store.current(name)
    number, problem = (broken.number, broken.problem) if broken else (0, "")
    if release is not None and broken is None:
        try:
            served = released(release, partial(store.document, name))
            check_inputs(release, served.arms)
            found.released[name] = served
        except ReleaseError as error:
            number, problem = release.number, "; ".join(error.problems)
    if problem:
        found.broken[name] = Problem(f"releases/{name}/{number}", 1, "(release)", problem)


def told(found: Found, serving: Mapping[str, int]) -> list[dict[str, Any]]:
    """For `--json`: each broken release, and what is wrong with the store. `serving`: pipeline → release."""
    broken: list[dict[str, Any]] = [
        {
            "pipeline": name,
            "serves_release": serving.get(name),
            "problems": [str(problem)],
        }
        for name, problem in found.broken.items()
    ]
    away = [str(p) for p in found.away]
    return broken + ([{"pipeline": None, "serves_release": None, "problems": away}] if away else [])


def lines(found: Found, serving: Mapping[str, int]) -> list[str]:
    """For people: a sentence for each broken release, then its problem. `serving`: as of `told`."""
    broken = found.broken.items()
    texts = [text for n, p in broken for text in (_sentence(n, serving.get(n)), f"  {p}")]
    return texts + [str(p) for p in found.away]


def _sentence(name: str, serves: int | None) -> str:
    if serves is None:
        return f"pipeline {name} is in quarantine: its newest release can't be used, and no router serves another one"
    return f"pipeline {name} serves release {serves}, which was good last: the newest can't be used"
