"""Is it safe? What the evidence says of a release, in plain words with its figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile
from typing import Literal

from headrace.analysis import Count, lower_bound, upper_bound
from headrace.releases import LIVE, Release, RolloutState
from headrace.ticks import ArmFigures, added
from headrace.ticks.bins import slower_than
from services.monitoring.console.facts import words
from services.monitoring.guards.guard import Finding, Verdict
from services.monitoring.rollouts.analyser import Status

# good: proven, as far as figures can; watch: not known yet; bad: harm, or more failures than allowed; undone: taken back.
Level = Literal["good", "watch", "bad", "undone"]

# As the guards of a rollout: how sure, and how much is allowed.
_ALPHA = 0.05
_ALLOWED: Mapping[str, float] = {"failed": 0.005, "were slow": 0.05}
_ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)
_WHAT = {"errors": "rows that failed", "slow": "slow rows", "wrong": "wrong answers"}
_NOUNS = {"errors": "Failed"}
_LEVELS = {Verdict.HARM: "bad", Verdict.PROVEN_FINE: "good", Verdict.NOTHING_FOUND: "good"}


@dataclass(frozen=True, slots=True)
class Assessment:
    """`title`: a few words; `sentence`: what it rests on, with all figures."""

    level: Level
    title: str
    sentence: str

    def values(self) -> dict[str, object]:
        """For the pages."""
        return {"level": self.level, "title": self.title, "sentence": self.sentence}


def assess(
    history: Sequence[Release],
    counts: Mapping[tuple[int, str], ArmFigures],
    status: Status | None,
    slow_s: float | None,
) -> Assessment:
    """The newest release of `history` (newest first). `counts`: (release, arm) → what it answered; `status`: where the analyser
    sees its rollout; `slow_s`: what counts as slow."""
    release = history[0]
    if release.rollout is not None and release.rollout.state in _ACTIVE:
        return _of_rollout(release, status)
    alone = _alone(history, counts, slow_s)
    if alone.level != "bad" and release.rollout is not None and _ended_by(release, history):
        return _of_end(release, alone)
    return alone


def guard_row(guard: Finding) -> dict[str, object]:
    """One guard of a rollout for the table: figures of both arms, and how far the evidence is."""
    what = _WHAT.get(guard.name, guard.name.replace("_", " "))
    over = f" (over {guard.slow_over_s * 1000:g} ms)" if guard.slow_over_s else ""
    return {
        "guard": guard.name,
        "what": what + over,
        "live": {"rows": guard.live.rows, "bad": guard.live.bad, "share": _share(guard.live)},
        "canary": {"rows": guard.canary.rows, "bad": guard.canary.bad, "share": _share(guard.canary)},
        "harm": {"evidence": guard.harm_e, "needed": guard.harm_threshold},
        "fine": {"evidence": guard.fine_e, "needed": guard.fine_threshold},
        "excess": guard.excess,
        "excess_allowed": guard.excess_allowed,
        "verdict": str(guard.verdict),
        "level": _LEVELS.get(guard.verdict, "watch"),
        "says": guard.says,
        "unknown": guard.unknown,
    }


def _of_rollout(release: Release, status: Status | None) -> Assessment:
    rollout = release.rollout
    assert rollout is not None, "the caller has looked"
    weight = words.share(release.assign.weights.get(rollout.arm, 0.0))
    where = f"Arm {rollout.arm} has {weight} of the rows"
    if rollout.state is RolloutState.PAUSED:
        where += ", the rollout is paused"
    if status is None or status.number != release.number or status.judgement is None:
        why = f" {status.problem}" if status is not None and status.problem else ""
        return Assessment("watch", "being judged", f"{where}; the analyser has not looked at it yet.{why}")
    judgement = status.judgement
    level: Level = "watch"
    if judgement.guards_say == Verdict.HARM:
        level = "bad"
    elif judgement.guards_say == Verdict.PROVEN_FINE:
        level = "good"
    titles = {"bad": judgement.suspicion or "harm", "good": "proven fine so far", "watch": "being judged"}
    figures = "".join(
        f" {_plain(guard)}." for guard in judgement.guards if guard.verdict != Verdict.NOT_KNOWN
    )
    if unknown := [
        guard.name.replace("_", " ") for guard in judgement.guards if guard.verdict == Verdict.NOT_KNOWN
    ]:
        figures += f" Not known: {', '.join(unknown)}."
    return Assessment(level, titles[level], f"{where}.{figures}")


def _plain(guard: Finding) -> str:
    noun = _NOUNS.get(guard.name, guard.name.replace("_", " ").capitalize())
    if not guard.fine_e:
        return f"{noun}: {guard.says}, {guard.verdict}"
    new = f"{words.count(guard.canary.bad)} of {words.count(guard.canary.rows)} ({words.share(_share(guard.canary))})"
    return f"{noun}: {new} against {words.share(_share(guard.live))} on the live arm, {guard.verdict}"


def _of_end(release: Release, since: Assessment) -> Assessment:
    rollout = release.rollout
    assert rollout is not None, "the caller has looked"
    said = rollout.verdict or "no verdict was written"
    if rollout.state is RolloutState.PROMOTED:
        return Assessment("good", "promoted", f"{said} Since then: {since.sentence}")
    title = "rolled back" if rollout.state is RolloutState.ROLLED_BACK else "aborted"
    return Assessment("undone", title, f"{said} All rows are with the live arm. {since.sentence}")


def _ended_by(release: Release, history: Sequence[Release]) -> bool:
    """Whether this very release ended its rollout; releases after it keep its rollout for the record."""
    before = next((r for r in history[1:] if r.number < release.number), None)
    return before is None or before.rollout is None or before.rollout.state in _ACTIVE


def _alone(
    history: Sequence[Release], counts: Mapping[tuple[int, str], ArmFigures], slow_s: float | None
) -> Assessment:
    """What the live arm answers since it is what it is. What was live before answered at other times, so nothing is compared with
    it: the holdback of a deployment was."""
    same = takewhile(lambda release: release.live == history[0].live, history)
    now = _sum(counts, {release.number for release in same})
    if now is None or not now.rows:
        return Assessment("watch", "no rows yet", "Nothing was answered by it since it is live.")
    found = [_one("failed", Count(now.rows, now.errors))]
    if slow_s is not None:
        found.append(_one("were slow", Count(sum(now.latency), slower_than(now.latency, slow_s))))
    levels = [one.level for one in found]
    level: Level = "bad" if "bad" in levels else "watch" if "watch" in levels else "good"
    title = {"good": "answers well", "watch": "too early to say", "bad": "fails or is slow"}[level]
    return Assessment(level, title, " ".join(one.sentence for one in found))


def _sum(counts: Mapping[tuple[int, str], ArmFigures], numbers: set[int]) -> ArmFigures | None:
    """Counts of the live arm over releases; None: there are none."""
    found = [figures for (number, arm), figures in counts.items() if arm == LIVE and number in numbers]
    return reduce(added, found) if found else None


def _one(verb: str, now: Count) -> Assessment:
    told = f"{words.count(now.bad)} of {words.count(now.rows)} rows {verb} ({words.share(_share(now))})"
    allowed, most = _ALLOWED[verb], upper_bound(now, _ALPHA)
    if lower_bound(now, _ALPHA) > allowed:
        return Assessment("bad", verb, f"{told}. That is surely more than {words.share(allowed)}.")
    return Assessment("good" if most <= allowed else "watch", verb, f"{told}; at most {words.share(most)}.")


def _share(count: Count) -> float | None:
    return count.bad / count.rows if count.rows else None
