"""The guards of rollouts as documents name them: what each does when it finds something, and its margins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat

# What follows when a guard finds that the canary is worse, or another: it gets no rows any more, the rollout waits for a person,
# or it is only said.
GuardAction: TypeAlias = Literal["go_back", "pause", "tell"]


class Margins(NamedTuple):
    """See Guard."""

    harm: float
    fine_ratio: float
    fine_absolute: float


class Defaults(NamedTuple):
    """What holds of a guard where a document says nothing. `weight`: its share of half of α, against those of the other guards;
    0: it has a part of the other half. `always`: whether it judges rollouts that do not name it, too."""

    action: GuardAction
    margins: Margins
    weight: float = 1.0
    always: bool = True


# Errors must not rise at all. Arms differ a little in speed without any harm, and new models in their mistakes and their answers.
_NEVER = Margins(0.0, 2.0, 0.005)
GUARDS: Mapping[str, Defaults] = {
    "errors": Defaults("go_back", _NEVER, 4.0),
    "slow": Defaults("go_back", Margins(1.0, 3.0, 0.05), 4.0),
    "wrong": Defaults("go_back", Margins(0.05, 0.1, 0.02), 2.0, always=False),
    "non_finite": Defaults("go_back", _NEVER, 2.0),
    "null": Defaults("go_back", _NEVER),
    "out_of_range": Defaults("go_back", _NEVER),
    "shift": Defaults("pause", Margins(0.5, 1.0, 0.1)),
    "cost": Defaults("pause", Margins(1.0, 3.0, 0.05)),
    "calibration": Defaults("pause", Margins(0.05, 1.0, 0.05)),
    "drift": Defaults("pause", _NEVER, 0.0),
    "segments": Defaults("pause", Margins(0.25, 1.0, 0.1), 0.0),
    "tenants": Defaults("pause", Margins(0.25, 1.0, 0.1), 0.0),
}


def _known(name: str) -> str:
    if name not in GUARDS:
        raise ValueError(f"there is no guard {name!r} (there are: {', '.join(GUARDS)})")
    return name


GuardName: TypeAlias = Annotated[str, AfterValidator(_known)]


class Guard(BaseModel):
    """One guard that a rollout is judged by. A bad unit is: `errors`: a fault of ours; `slow`: slower than `slow_ms` (None: the
    pipeline's objective, else the live arm's p95); `wrong`: an outcome says so; the others: `services/monitoring/guards`.

    Harm: the canary's rate of bad units exceeds (1 + `harm_margin`) × the live arm's. Fine: it is below (1 + `fine_ratio`) × the
    live arm's, or exceeds it by less than `fine_absolute`. What is None is the usual of this guard.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    harm_margin: float | None = Field(default=None, ge=0, le=10)
    fine_ratio: float | None = Field(default=None, gt=0, le=10)
    fine_absolute: float | None = Field(default=None, gt=0, lt=1)
    slow_ms: PositiveFloat | None = None
    # Whether a promotion waits for this guard to be proven fine, if it can be.
    required: bool = True
    action: GuardAction | None = None

    def margins(self, name: str) -> Margins:
        """The margins as the guard of this name."""
        own = (self.harm_margin, self.fine_ratio, self.fine_absolute)
        return Margins(*(u if o is None else o for o, u in zip(own, GUARDS[name].margins, strict=True)))


def judging(named: Mapping[str, Guard]) -> dict[str, Guard]:
    """The guards of a rollout that names these: all others that need no outcomes, too."""
    return {name: named.get(name, Guard()) for name, usual in GUARDS.items() if usual.always or name in named}
