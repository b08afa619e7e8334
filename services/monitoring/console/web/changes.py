"""Which address changes what. Each takes a form of a page of ours, or JSON with a key in a header."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request

from services.monitoring.console import faults
from services.monitoring.console.actions import ROLLBACK
from services.monitoring.console.web.forms import number
from services.monitoring.console.web.guard import Access, Guard
from services.monitoring.console.web.views import Parts

Fields: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """`values`: for programs; `page`: where a browser goes then."""

    values: dict[str, Any]
    page: str


Change: TypeAlias = Callable[[Request, Access, Fields], Awaitable[Done]]


def changes(parts: Parts, guard: Guard) -> Mapping[str, Change]:
    """By path."""

    async def act(request: Request, access: Access, fields: Fields) -> Done:
        name, action = request.path_params["pipeline"], request.path_params.get("action", ROLLBACK)
        who, to = access.operator.name, number(fields, "to")
        made = await parts.actions.do(name, action, _expected(fields), who, _reason(fields), to)
        return Done(made, f"/pipelines/{name}?done={made['release']['number']}")

    async def freeze(_: Request, access: Access, fields: Fields) -> Done:
        wanted = fields.get("frozen", "")
        if wanted not in ("yes", "no"):
            raise faults.malformed("frozen", "is yes or no")
        made = await parts.actions.set_freeze(access.operator.name, _reason(fields), frozen=wanted == "yes")
        return Done(made, "/freeze")

    async def silence(request: Request, access: Access, fields: Fields) -> Done:
        who, why = access.operator, fields.get("reason", "")
        made = await parts.incidents.silence(
            fields.get("fingerprint", ""), fields.get("hours", ""), who.name, why
        )
        about = {"alert": made["alert"], "until": made["until"], "reason": why.strip()}
        guard.note("alert_silenced", request, access, about)
        return Done(made, "/incidents")

    return {
        "/pipelines/{pipeline}/rollback": act,
        "/pipelines/{pipeline}/actions/{action}": act,
        "/freeze": freeze,
        "/incidents/silence": silence,
    }


def _reason(fields: Fields) -> str:
    return fields.get("reason", "").strip()


def _expected(fields: Fields) -> int:
    found = number(fields, "number")
    if found is None:
        raise faults.malformed("number", "says for which newest release this was decided; it is missing")
    return found
