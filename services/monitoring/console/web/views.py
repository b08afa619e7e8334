"""Which address shows what, and which changes what: each is a page for people and JSON for programs (`.json` behind it)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from starlette.requests import Request

from services.monitoring.console import faults
from services.monitoring.console.actions import ROLLBACK, Actions
from services.monitoring.console.audit_log import AuditLog
from services.monitoring.console.incidents.page import Incidents
from services.monitoring.console.pages import Pages
from services.monitoring.console.ports import Sources
from services.monitoring.console.requests.page import Requests
from services.monitoring.console.web.forms import number
from services.monitoring.console.web.guard import Access, Guard

Values: TypeAlias = dict[str, Any]
Facts: TypeAlias = Callable[[Request, Access], Awaitable[Values]]
Fields: TypeAlias = Mapping[str, str]
# Takes a form of a page of ours, or JSON with a key in a header. Gives values for programs, and where a browser goes then.
Change: TypeAlias = Callable[[Request, Access, Fields], Awaitable[tuple[Values, str]]]


@dataclass(frozen=True, slots=True)
class Parts:
    """All that the console shows and does. `sources`: for pages of their own."""

    pages: Pages
    actions: Actions
    requests: Requests
    incidents: Incidents
    audit_log: AuditLog
    sources: Sources


@dataclass(frozen=True, slots=True)
class View:
    """A page: where its values come from, its template, and its title. `menu`: its name in the menu; "": it is not there. `part`:
    a part of a page, which the page asks for again and again: it gives the session no more time."""

    facts: Facts
    template: str
    title: str
    menu: str = ""
    part: bool = False


def views(parts: Parts) -> Mapping[str, View]:
    """By path."""
    pages, actions, log = parts.pages, parts.actions, parts.audit_log

    async def audit(_: Request, access: Access) -> Values:
        await log.record_reading(access.operator.name, "journals")
        return await pages.audit()

    return {
        "/": View(lambda _, __: pages.overview(), "overview.html", "What changed", "Changes"),
        "/now": View(lambda _, __: pages.overview(), "parts/overview.html", "", part=True),
        "/pipelines/{pipeline}": View(
            lambda r, _: pages.pipeline(_name(r), number(r.query_params, "days")), "pipeline.html", "Pipeline"
        ),
        "/pipelines/{pipeline}/now": View(
            lambda r, _: pages.pipeline_now(_name(r)), "parts/pipeline.html", "", part=True
        ),
        "/pipelines/{pipeline}/rollback": View(
            lambda r, _: actions.question(_name(r), ROLLBACK, number(r.query_params, "to")),
            "action.html",
            "Roll back",
        ),
        "/pipelines/{pipeline}/actions/{action}": View(
            lambda r, _: actions.question(_name(r), r.path_params["action"]), "action.html", "Change"
        ),
        "/freeze": View(lambda _, __: actions.freeze(), "freeze.html", "Freeze automation"),
        "/incidents": View(lambda _, __: parts.incidents.page(), "incidents.html", "Incidents", "Incidents"),
        "/requests": View(
            lambda r, _: parts.requests.page(r.query_params), "requests.html", "Requests", "Requests"
        ),
        "/models": View(lambda _, __: pages.models(), "models.html", "Models", "Models"),
        "/models/{model}/{version}": View(
            lambda r, _: pages.model(r.path_params["model"], r.path_params["version"]), "model.html", "Model"
        ),
        "/incidents/runbooks/{runbook}": View(
            lambda r, _: parts.incidents.runbook(r.path_params["runbook"]), "runbook.html", "Runbook"
        ),
        "/audit": View(audit, "audit.html", "Audit", "Audit"),
        "/audit/log": View(
            lambda r, a: log.page(a.operator.name, number(r.query_params, "before")),
            "audit_log.html",
            "Changes",
        ),
    }


def _name(request: Request) -> str:
    return str(request.path_params["pipeline"])


def changes(parts: Parts, guard: Guard) -> Mapping[str, Change]:
    """By path."""

    async def act(request: Request, access: Access, fields: Fields) -> tuple[Values, str]:
        name, action = request.path_params["pipeline"], request.path_params.get("action", ROLLBACK)
        who, to = access.operator.name, number(fields, "to")
        made = await parts.actions.do(name, action, _expected(fields), who, _reason(fields), to)
        return made, f"/pipelines/{name}?done={made['release']['number']}"

    async def freeze(_: Request, access: Access, fields: Fields) -> tuple[Values, str]:
        wanted = fields.get("frozen", "")
        if wanted not in ("yes", "no"):
            raise faults.malformed("frozen", "is yes or no")
        made = await parts.actions.set_freeze(access.operator.name, _reason(fields), frozen=wanted == "yes")
        return made, "/freeze"

    async def silence(request: Request, access: Access, fields: Fields) -> tuple[Values, str]:
        who, why = access.operator, fields.get("reason", "")
        made = await parts.incidents.silence(
            fields.get("fingerprint", ""), fields.get("hours", ""), who.name, why
        )
        about = {"alert": made["alert"], "until": made["until"], "reason": why.strip()}
        guard.note("alert_silenced", request, access, about)
        return made, "/incidents"

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
