"""Plain words for figures and changes, so that nobody has to know the document's keys to understand what happened."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from headrace.releases.changes.differences import Difference

_MODEL = re.compile(r"arms\.([^.]+)\.models\.(.+)")
_VERSION = re.compile(r"arms\.([^.]+)\.version")
_WEIGHT = re.compile(r"assign\.weights\.(.+)")
# What a change of these says is said by another sentence already, or is of no use to a reader.
_QUIET = re.compile(
    r"arms\.[^.]+\.revision|assign\.(salt|starts\..+)"
    r"|rollout\.(arm|step|since|started|verdict|guards\..+|ladder|alpha|fine_alpha|budget_share|deadline_s|stage_s|otherwise)"
)
_ABSENT = "—"
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def share(value: float | None) -> str:
    """A share in per cent, with as many digits as it is worth; "–": unknown."""
    if value is None:
        return "–"
    per_cent = 100 * value
    if per_cent and abs(per_cent) < 0.01:
        return "< 0.01\u00a0%"
    digits = 2 if abs(per_cent) < 1 else 1 if abs(per_cent) < 10 else 0
    text = f"{per_cent:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\u00a0%"


def count(value: float) -> str:
    """A whole number with thin spaces between its thousands."""
    return count_to(value, 0)


def count_to(value: float, digits: int) -> str:
    """As `count`, with so many digits after the point."""
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def rate(value: float) -> str:
    """Something per second."""
    return count(value) if value >= 100 else f"{value:.1f}"


def money(amount: float, currency: str) -> str:
    """Cents, or two digits of a smaller amount; never an exponent, and nothing for what rounding leaves."""
    amount = amount if abs(amount) > 1e-9 else 0.0
    digits = 1 - math.floor(math.log10(min(abs(amount) or 0.1, 0.1)))
    return f"{count_to(amount, digits)}\u00a0{currency}"


def plural(number: int, one: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{count(number)} {one if number == 1 else one + 's'}"


def duration(seconds: float) -> str:
    """The largest unit that divides it, or seconds."""
    size, name = next(((s, n) for s, n in UNITS if seconds >= s and seconds % s == 0), (1, "second"))
    return plural(round(seconds / size), name)


def age(seconds: float | None) -> str:
    """With three digits, such as `3.5 min`; "–": unknown."""
    if seconds is None:
        return "–"
    for limit, per, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (2 * 86_400.0, 3600.0, "h")):
        if seconds < limit:
            return f"{seconds / per:.3g}\u00a0{unit}"
    return f"{seconds / 86_400.0:.3g}\u00a0days"


def sentences(changes: Iterable[Difference]) -> list[str]:
    """What changes, a sentence each; the technical keys that follow from another change are left out."""
    told = [change for change in changes if not _QUIET.fullmatch(change.key)]
    new = {m[1] for c in told if (m := _VERSION.fullmatch(c.key)) and c.before == _ABSENT}
    gone = {m[1] for c in told if (m := _VERSION.fullmatch(c.key)) and c.after == _ABSENT}
    found = [*_weights(told), *(_arm_comes(arm, told) for arm in sorted(new))]
    found += [f"arm {arm} is taken away" for arm in sorted(gone)]
    for change in told:
        arm = change.key.split(".")[1] if change.key.startswith("arms.") else ""
        if arm not in new | gone and not _WEIGHT.fullmatch(change.key):
            found.append(_sentence(change))
    return found or ["nothing that serves"]


def _weights(changes: Iterable[Difference]) -> list[str]:
    """One sentence about who gets which rows."""
    parts = [
        f"{found[1]} {_or_none(c.before)} → {_or_none(c.after)}"
        for c in changes
        if (found := _WEIGHT.fullmatch(c.key)) and _or_none(c.before) != _or_none(c.after)
    ]
    return [f"share of the rows: {', '.join(parts)}"] if parts else []


def _arm_comes(arm: str, changes: Iterable[Difference]) -> str:
    models = [
        f"{found[2]} {c.after}" for c in changes if (found := _MODEL.fullmatch(c.key)) and found[1] == arm
    ]
    return f"new arm {arm}" + (f" with model {', '.join(models)}" if models else "")


def _or_none(weight: str) -> str:
    return "0\u00a0%" if weight == _ABSENT else weight.replace(" %", "\u00a0%")


def _sentence(change: Difference) -> str:
    key, before, after = change.key, change.before, change.after
    if found := _MODEL.fullmatch(key):
        arm, model = found.groups()
        if before == _ABSENT:
            return f"arm {arm} runs model {model} {after}"
        if after == _ABSENT:
            return f"arm {arm} no longer runs model {model} (was {before})"
        return f"arm {arm}: model {model} {before} → {after}"
    if found := _VERSION.fullmatch(key):
        return f"arm {found[1]}: pipeline document version {before} → {after}"
    if key == "rollout.state":
        return (
            "a rollout begins" if before == _ABSENT else f"the rollout: {before} → {after}".replace("_", " ")
        )
    name = key.replace("_", " ").replace(".", " · ")
    return f"{name}: {before} → {after}"
