"""What an operator can do to a pipeline: go back, steer its rollout, and keep automation away. By the rules of the command line:
what it refuses is refused here with the same sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.releases import Freeze, ReleaseError
from headrace.releases import changes as rules
from headrace.releases.faults import refused
from services.monitoring.console import faults
from services.monitoring.console.facts import releases, words
from services.monitoring.console.known import How, KnownReleases, PipelineFacts
from services.monitoring.console.reach import Reach

MAX_REASON = 2000
ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Action:
    """`how`: makes the next release, or raises ReleaseError; `says`: what it means, for who has to decide; `risky`: more rows get
    something that is not proven yet."""

    name: str
    label: str
    says: str
    how: How
    risky: bool = False


ACTIONS: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action(
            "pause",
            "Pause the rollout",
            "The weights stay as they are until somebody resumes it. Evidence is still gathered.",
            lambda basis, *_: rules.paused(basis),
        ),
        Action(
            "resume",
            "Resume the rollout",
            "The analyser judges it again and moves it on, or takes it back.",
            lambda basis, _, freeze: rules.resumed(basis, freeze),
        ),
        Action(
            "promote",
            "Promote now",
            "The new arm gets all rows now, without further proof. The old one stays as `previous`.",
            lambda basis, *_: rules.promoted(basis),
            risky=True,
        ),
        Action(
            "abort",
            "Abort the rollout",
            "All rows go back to the live arm.",
            lambda basis, *_: rules.aborted(basis),
        ),
        Action(
            "freeze",
            "Freeze automation",
            "Rollouts of this pipeline stay where they are. People may still change everything.",
            lambda basis, *_: rules.switched(basis, frozen=True),
        ),
        Action(
            "unfreeze",
            "End the freeze",
            "Automation goes on for this pipeline.",
            lambda basis, *_: rules.switched(basis, frozen=False),
        ),
    )
}


class Actions:
    """`to`: the release that the action `rollback` goes back to; None: to what was live before."""

    def __init__(self, known: KnownReleases, reach: Reach) -> None:
        self._known = known
        self._reach = reach

    def offered(self, facts: PipelineFacts, freeze: Freeze | None) -> list[dict[str, Any]]:
        """Each action with whether it is possible now, and if not, why."""
        return [self._offer(action, facts, freeze) for action in ACTIONS.values()]

    async def question(self, pipeline: str, name: str, to: int | None = None) -> dict[str, Any]:
        """What the action would change. Raises Fault: it is refused, or there is no such action."""
        action = _action(name, to)
        facts = await self._known.fresh(pipeline)
        basis, freeze = facts.basis(), await self._known.frozen()
        try:
            made = action.how(basis, facts.history, freeze)
        except ReleaseError as error:
            raise refused(error) from None
        changes = rules.differences(basis.release, made)
        if not changes:
            raise faults.unchanged(pipeline, basis.newest)
        back = releases.way_back(basis, facts.history, to) if name == ROLLBACK else {"label": action.label}
        return {
            "pipeline": pipeline,
            "action": name,
            "label": back["label"],
            "says": f"It brings back what release {back['to']} served." if back.get("to") else action.says,
            "risky": action.risky,
            "number": basis.newest,
            "to": back.get("to"),
            "changes": words.sentences(changes),
            "keys": releases.key_rows(changes),
            "at": self._reach.at(),
            "notices": await self._known.problems(made),
        }

    async def do(
        self, pipeline: str, name: str, expected: int, author: str, reason: str, to: int | None = None
    ) -> dict[str, Any]:
        """Does it, if `expected` is still the newest release. Raises Fault: nothing was changed."""
        how = _action(name, to).how
        made, changes = await self._known.change(pipeline, how, expected, author, _checked(reason))
        self._reach.log.info(
            "changed from the console", pipeline=pipeline, action=name, number=made.number, author=author
        )
        return releases.made_row(made, changes)

    async def freeze(self) -> dict[str, Any]:
        """Whether all automation is frozen, by whom and why. Raises Fault."""
        return {"at": self._reach.at(), "notices": [], "freeze": _told(await self._known.frozen())}

    async def set_freeze(self, author: str, reason: str, *, frozen: bool) -> dict[str, Any]:
        """Stops all automation, or lets it go on. Raises Fault: nothing was changed."""
        at = self._reach.now()
        wanted = Freeze(author, _checked(reason) or "no reason given", at) if frozen else None
        await self._known.freeze(wanted)
        said = "automation frozen" if frozen else "automation goes on"
        self._reach.log.info(said, author=author, reason=reason)
        return {"at": at.isoformat(), "freeze": _told(wanted)}

    @staticmethod
    def _offer(action: Action, facts: PipelineFacts, freeze: Freeze | None) -> dict[str, Any]:
        basis, why = facts.basis(), ""
        try:
            if not rules.differences(basis.release, action.how(basis, facts.history, freeze)):
                why = faults.nothing_to_change(basis.newest)
        except ReleaseError as error:
            why = "; ".join(error.problems)
        return {
            "action": action.name,
            "label": action.label,
            "possible": not why,
            "why": why,
            "risky": action.risky,
        }


def _action(name: str, to: int | None) -> Action:
    if name == ROLLBACK:
        return Action(
            name,
            "Roll back",
            ACTIONS["abort"].says,
            lambda basis, history, _: rules.rolled_back_to(basis, history, to),
            True,
        )
    found = ACTIONS.get(name)
    if found is None:
        raise faults.no_page(f"/actions/{name}")
    return found


def _checked(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise faults.malformed("reason", f"has more than {MAX_REASON} characters")
    return reason


def _told(freeze: Freeze | None) -> dict[str, Any] | None:
    if freeze is None:
        return None
    return {"author": freeze.author, "reason": freeze.reason, "at": freeze.at.isoformat()}
