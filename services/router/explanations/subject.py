"""What is explained: an output of a pipeline's arm, the stages that lead to it, the columns that decide, and the base row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from headrace.columns import DType
from headrace.drift import Baseline
from headrace.explanations import BaseRow, ExplanationError, Patches, Player, base_row
from headrace.explanations.base_row import BLANK
from headrace.explanations.patches import SIDE
from headrace.pipeline import (
    Pipeline,
    Towards,
    default_output,
    explainable_columns,
    is_explainable,
    kind_of,
    towards,
)
from services.router.routes.route import Route
from services.router.stages.runner import StageRunner

# Models by name with their versions → the baseline of all together; None: there is none. Blocks.
Baselines: TypeAlias = Callable[[Mapping[str, str]], Baseline | None]
# The route of a background run of an arm: its runners have clients of their own.
BackgroundRoute: TypeAlias = Callable[[str, Pipeline], Route]

_MOST_SUBJECTS = 64
# What failed for lack of a baseline is looked at again, as it may be mended.
_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """An image that an output depends on. `column`: its pixels, which the stages of `route` make from the columns `reads`."""

    column: str
    route: Route
    reads: tuple[str, ...]
    patches: Patches


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Subject:
    """`route`: the stages that lead to the output, from the columns `route_reads`: the `players`. With `pixels`, these are among
    them, and the players are the patches of the image."""

    arm: str
    pipeline: Pipeline
    output: str
    route: Route
    players: tuple[str, ...]
    base: BaseRow
    route_reads: tuple[str, ...]
    pixels: Pixels | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that a row must have."""
        if self.pixels is None:
            return self.players
        names = (*self.pixels.reads, *(n for n in self.route_reads if n != self.pixels.column))
        return tuple(dict.fromkeys(names))

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the base row's value of each player comes from."""
        return tuple(self.base.sources[name] for name in self.players)


class Subjects:
    """Makes subjects, and keeps them. `clock`: monotonic seconds."""

    def __init__(self, background: BackgroundRoute, baselines: Baselines, clock: Callable[[], float]) -> None:
        self._background = background
        self._baselines = baselines
        self._clock = clock
        self._made: dict[tuple[Route, str], Subject | tuple[ExplanationError, float]] = {}

    async def of(self, route: Route, output: str = "") -> Subject:
        """The subject of a live route. `output` "": the one that the document names. Raises ExplanationError."""
        pipeline = route.plan.pipeline
        rule = pipeline.explanations
        wanted = output or (rule.output if rule else default_output(pipeline))
        known = self._made.get((route, wanted))
        if isinstance(known, Subject):
            return known
        if known is not None and self._clock() - known[1] < _AGAIN_S:
            raise known[0]
        if len(self._made) >= _MOST_SUBJECTS:
            self._made.clear()
        try:
            made = await self._make(route, wanted)
        except ExplanationError as error:
            self._made[route, wanted] = (error, self._clock())
            raise
        self._made[route, wanted] = made
        return made

    async def _make(self, route: Route, output: str) -> Subject:
        pipeline = route.plan.pipeline
        _check(pipeline, output)
        part = towards(route.plan, output)
        if not part.reads:
            raise ExplanationError(
                "players", f"the output {output!r} depends on no input and no feature column"
            )
        background = self._background(route.name, pipeline)
        if (image := _image(part)) is not None:
            return _of_pixels(route, output, *image, background)
        models = {name: version for s in part.plan.stages for name, version in _models(s.stage).items()}
        baseline = await asyncio.to_thread(self._baselines, models)
        rule = pipeline.explanations
        declared = rule.base if rule is not None and rule.output == output else {}
        base = base_row(_players(pipeline, part.reads), declared, baseline)
        tail = _part(background, part)
        return Subject(route.name, pipeline, output, tail, part.reads, base, part.reads)


def _image(part: Towards) -> tuple[str, Patches] | None:
    """The first column of pixels in three channels that is made on the way, and its grid."""
    for planned in part.plan.stages:
        for name, kind in planned.writes.items():
            if kind is not None and kind.dtype is DType.UINT8 and kind.row_shape[2:] == (3,):
                height, width = kind.row_shape[:2]
                return name, Patches(height, width, min(SIDE, height), min(SIDE, width))
    return None


def _of_pixels(route: Route, output: str, column: str, patches: Patches, background: Route) -> Subject:
    head, tail = towards(route.plan, column), towards(route.plan, output, {column})
    pixels = Pixels(column, _part(background, head), head.reads, patches)
    players = patches.names(column)
    base = BaseRow({}, dict.fromkeys(players, BLANK))
    return Subject(
        route.name, route.plan.pipeline, output, _part(background, tail), players, base, tail.reads, pixels
    )


def _part(background: Route, part: Towards) -> Route:
    return Route(background.name, part.plan, tuple(background.runners[i] for i in part.positions))


def _check(pipeline: Pipeline, output: str) -> None:
    explainable = [o.name for o in pipeline.outputs if is_explainable(o)]
    if output not in explainable:
        raise ExplanationError(
            "output",
            f"pipeline {pipeline.name} has no output {output!r} that is one number or truth value",
            f"name one of: {', '.join(explainable)}" if explainable else "",
        )


def _players(pipeline: Pipeline, names: tuple[str, ...]) -> list[Player]:
    types = explainable_columns(pipeline)
    inputs = {field.name: field for field in pipeline.inputs}
    found = []
    for name in names:
        field = inputs.get(name)
        nullable = field is None or not field.required
        found.append(Player(name, types[name], nullable, field.default if field else None))
    return found


def _models(stage: object) -> Mapping[str, str]:
    kind = kind_of(stage)  # type: ignore[arg-type]  # a Stage, whose protocol the caller's list has lost
    return kind.models(stage)


def with_runners(route: Route, wrap: Callable[[StageRunner], StageRunner]) -> Route:
    """The route with each runner wrapped."""
    return Route(route.name, route.plan, tuple(map(wrap, route.runners)))
