"""The route table of a release: deals the rows of a batch to arms, by its rules and then by its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch
from headrace.pipeline import Pipeline
from headrace.releases import Release
from headrace.releases.inputs import check_inputs
from headrace.releases.spans import LIVE
from services.router.routes.assignment import Split
from services.router.routes.route import Choice, Route, Share
from services.router.routes.rules import Rules

# Up to so many rows a loop in Python takes less time than NumPy's calls.
_FEW = 8


class RouteTable:
    """Chooses the route of each row. Compiled once per release; `release`: its number. `decides`: not all rows are dealt with
    alike.

    What can happen to a row is numbered: rule 0, 1, …; then, for each arm, by the weights without a key and with one.
    """

    def __init__(self, release: Release, pipelines: Mapping[str, Pipeline]) -> None:
        self.release = release.number
        # The arms that rows can get.
        self.arms = tuple(release.arms)
        arms = self.arms
        rules = release.rules
        self._rules = Rules(rules, {f.name: f for f in pipelines[LIVE].inputs}) if rules else None
        self.decides = len(arms) > 1 or bool(rules)
        self._split = Split(release.assign, arms)
        self._drawn = len(rules)
        self._choices = [Choice(rule.name) for rule in rules]
        self._choices += [Choice(sticky=sticky) for _ in arms for sticky in (False, True)]
        self._arm_of = [arms.index(rule.arm) for rule in rules] + [i for i in range(len(arms)) for _ in "ab"]
        self._arm_array = np.array(self._arm_of, np.intp)
        self._bound: Sequence[Route] = ()
        self._routes: list[Route] = []
        # For each thing that can happen: the shares of a batch to all of whose rows it happens.
        self._alike: list[tuple[Share, ...]] = []

    @classmethod
    def compile(cls, release: Release, pipelines: Mapping[str, Pipeline]) -> RouteTable:
        """The table of a release. `pipelines`: of every arm.

        Raises ReleaseError that names each key that does not fit the pipelines' inputs.
        """
        check_inputs(release, pipelines)
        return cls(release, pipelines)

    def choose(self, routes: Sequence[Route], batch: Batch) -> Sequence[Share]:
        """The shares: disjoint, together all rows, one per route at most, none empty unless the batch is. `routes`: one per arm,
        named as it is, in any order. Raises ValueError if one is absent."""
        if routes is not self._bound:
            self._bind(routes)
        only, rules = self._split.only, self._rules
        if not len(batch) or (only is not None and rules is None):
            return self._alike[self._drawn + 2 * (only or 0)]
        if len(batch) <= _FEW:
            found = self._of_few(batch, rules, only)
            first = found[0]
            if found.count(first) == len(found):
                return self._alike[first]
            return self._shares(np.array(found, np.intp))
        many = self._of_many(batch, rules, only)
        if (many == many[0]).all():
            return self._alike[int(many[0])]
        return self._shares(many)

    def _bind(self, routes: Sequence[Route]) -> None:
        by_name = {route.name: route for route in routes}
        absent = [arm for arm in self.arms if arm not in by_name]
        if absent:
            raise ValueError(f"release {self.release} has no route for {', '.join(absent)}")
        self._routes = [by_name[arm] for arm in self.arms]
        self._alike = [
            (Share(self._routes[arm], None, (choice,)),)
            for arm, choice in zip(self._arm_of, self._choices, strict=True)
        ]
        self._bound = routes

    def _of_few(self, batch: Batch, rules: Rules | None, only: int | None) -> list[int]:
        drawn = self._drawn
        if only is not None:
            found = [drawn + 2 * only] * len(batch)
        else:
            arms, sticky = self._split.of_few(batch)
            found = [drawn + 2 * arm + key for arm, key in zip(arms, sticky, strict=True)]
        if rules is None:
            return found
        none = rules.none
        return [drew if rule == none else rule for drew, rule in zip(found, rules.of_few(batch), strict=True)]

    def _of_many(self, batch: Batch, rules: Rules | None, only: int | None) -> NDArray[np.intp]:
        if only is not None:
            found = np.full(len(batch), self._drawn + 2 * only, np.intp)
        else:
            arms, sticky = self._split.of_many(batch)
            found = self._drawn + 2 * arms + sticky
        if rules is None:
            return found
        numbers = rules.of_many(batch)
        return np.where(numbers == rules.none, found, numbers)

    def _shares(self, found: NDArray[np.intp]) -> list[Share]:
        arms = self._arm_array[found]
        shares = []
        for arm in sorted(set(arms.tolist())):
            rows = np.flatnonzero(arms == arm)
            happened, chosen = np.unique(found[rows], return_inverse=True)
            choices = tuple(self._choices[i] for i in happened.tolist())
            index = chosen.astype(np.uint16) if len(choices) > 1 else None
            whole = None if len(rows) == len(found) else rows
            shares.append(Share(self._routes[arm], whole, choices, index))
        return shares
