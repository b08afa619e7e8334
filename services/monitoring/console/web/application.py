"""Routes. Each address answers people with a page and programs with JSON (`Accept: application/json`, or `.json` behind it)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from headrace.hop.errors import Code, Fault, Reason, reason_name
from services.monitoring.console import faults
from services.monitoring.console.web.forms import number, read_form
from services.monitoring.console.web.guard import Access, Guard
from services.monitoring.console.web.headers import SecurityHeaders
from services.monitoring.console.web.render import STATIC, Renderer, as_json
from services.monitoring.console.web.views import Change, Parts, Values, View, changes, views
from services.monitoring.ports import Log

_STATUS: Mapping[Code, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 409,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
_SIGN_IN = "/sign-in"
_BUG = "something went wrong here; the log of the monitoring service says what"
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Application:
    """The console as an ASGI application (`asgi`)."""

    def __init__(self, parts: Parts, guard: Guard, renderer: Renderer, log: Log) -> None:
        self._parts = parts
        self._views = views(parts)
        self._guard = guard
        self._renderer = renderer
        self._log = log

    def asgi(self, *, tls: bool) -> ASGIApp:
        """The application with its headers."""
        missing: dict[Any, Any] = {404: self._missing, 405: self._missing}
        return SecurityHeaders(Starlette(routes=self._routes(), exception_handlers=missing), tls=tls)

    def _routes(self) -> list[BaseRoute]:
        found: list[BaseRoute] = [
            Mount("/static", StaticFiles(directory=STATIC)),
            Route(_SIGN_IN, self._sign_in_page, methods=["GET"]),
            Route(_SIGN_IN, self._sign_in, methods=["POST"]),
            Route("/sign-out", self._guarded(self._sign_out), methods=["POST"]),
            Route("/pipelines/{pipeline}/series.json", self._guarded(self._series)),
        ]
        for path, change in changes(self._parts, self._guard).items():
            found += [Route(f"{path}{end}", self._change(change), methods=["POST"]) for end in (".json", "")]
        for path, view in self._views.items():
            json_path = "/index.json" if path == "/" else f"{path}.json"
            found.append(Route(json_path, self._page(view, only_json=True), methods=["GET"]))
            found.append(Route(path, self._page(view), methods=["GET"]))
        return found

    def _page(self, view: View, *, only_json: bool = False) -> Endpoint:
        async def shown(request: Request, access: Access) -> Response:
            values = await view.facts(request, access)
            if only_json or wants_json(request):
                return as_json(values)
            response = self._html(request, view.template, view.title, access, values)
            if not view.part:
                self._guard.renew(response, access)
            return response

        return self._guarded(shown)

    def _change(self, change: Change) -> Endpoint:
        async def done(request: Request, access: Access) -> Response:
            fields = await read_form(request)
            self._guard.check_form(request, access, fields)
            values, page = await change(request, access, fields)
            return as_json(values) if wants_json(request) else RedirectResponse(page, 303)

        return self._guarded(done)

    async def _series(self, request: Request, _: Access) -> Response:
        return as_json(
            await self._parts.pages.series(
                request.path_params["pipeline"], number(request.query_params, "days")
            )
        )

    async def _sign_in_page(self, request: Request) -> Response:
        return self._sign_in_form(request.query_params.get("next", "/"))

    async def _sign_in(self, request: Request) -> Response:
        after = "/"
        try:
            fields = await read_form(request)
            after = _local(fields.get("next", "/"))
            session = self._guard.sign_in(request, fields)
        except Fault as fault:
            if wants_json(request):
                return _fault_json(fault)
            return self._sign_in_form(after, fault)
        response = RedirectResponse(after, 303)
        self._guard.set_session(response, session)
        return response

    async def _sign_out(self, request: Request, access: Access) -> Response:
        self._guard.check_form(request, access, await read_form(request))
        await self._guard.sign_out(access)
        response = RedirectResponse(_SIGN_IN, 303)
        self._guard.forget(response)
        return response

    def _sign_in_form(self, after: str, fault: Fault | None = None) -> Response:
        cookie, token = self._guard.begin_visit()
        values = {
            "title": "Sign in",
            "token": token,
            "next": _local(after),
            "problem": fault.message if fault else "",
        }
        status = _STATUS.get(fault.code, 500) if fault else 200
        response = Response(self._renderer.page("sign_in.html", values), status, media_type="text/html")
        if fault is not None:
            _hint(response, fault)
        self._guard.set_cookie(response, self._guard.visit_cookie, cookie)
        return response

    async def _missing(self, request: Request, error: Exception) -> Response:
        """Also what does not exist is told to operators only."""

        async def nothing(_: Request, __: Access) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 404
            raise faults.no_page(
                f"{request.method} {request.url.path}" if status == 405 else request.url.path
            )

        return await self._guarded(nothing)(request)

    def _guarded(self, answer: Callable[[Request, Access], Awaitable[Response]]) -> Endpoint:
        """`answer` for operators; what it raises is a page, too."""

        async def endpoint(request: Request) -> Response:
            access: Access | None = None
            try:
                access = self._guard.identify(request)
                return await answer(request, access)
            except Fault as fault:
                return self._fault(request, fault, access)
            except Exception as error:  # noqa: BLE001 - a bug of one page; the log has it, the caller no stack trace
                self._log.error(
                    "a page of the console failed", path=request.url.path, error=repr(error), exc_info=True
                )
                return self._fault(request, Fault(Code.INTERNAL, Reason.REASON_INTERNAL, _BUG), access)

        return endpoint

    def _fault(self, request: Request, fault: Fault, access: Access | None) -> Response:
        if wants_json(request):
            return _fault_json(fault)
        if fault.code is Code.UNAUTHENTICATED:
            return self._to_sign_in(request)
        values = {"problem": fault.message, "code": fault.code.name, "reason": reason_name(fault.reason)}
        if access is None:
            # A key in a header that may not do it: somebody at the command line.
            return _fault_json(fault)
        if "hx-request" in request.headers:
            template, title = "parts/problem.html", ""
        else:
            template, title = "problem.html", "That did not work"
        response = self._html(request, template, title, access, values)
        response.status_code = _STATUS.get(fault.code, 500)
        _hint(response, fault)
        return response

    def _to_sign_in(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        after = f"{request.url.path.removesuffix('/now') or '/'}{query}" if request.method == "GET" else "/"
        target = _SIGN_IN if after == "/" else f"{_SIGN_IN}?next={quote(after, safe='')}"
        if "hx-request" in request.headers:
            # htmx follows this header; a redirect would put the sign-in page into a part of the page.
            response = Response("", 401, headers={"hx-redirect": target})
        else:
            response = RedirectResponse(target, 303)
        self._guard.forget(response)
        return response

    def _html(self, request: Request, template: str, title: str, access: Access, values: Values) -> Response:
        frame = {
            "title": title,
            "operator": access.operator.name,
            "token": access.token,
            "path": request.url.path,
            "menu": [(path, view.menu) for path, view in self._views.items() if view.menu],
            "done": number(request.query_params, "done"),
        }
        return Response(self._renderer.page(template, {**values, **frame}), media_type="text/html")


def wants_json(request: Request) -> bool:
    """By the address, else by what is preferred; a browser prefers HTML."""
    if request.url.path.endswith(".json"):
        return True
    accepted = request.headers.get("accept", "*/*").lower()
    return "application/json" in accepted and "text/html" not in accepted


def _fault_json(fault: Fault) -> Response:
    error = {
        "code": fault.code.name,
        "reason": reason_name(fault.reason),
        "message": fault.message,
        "metadata": dict(fault.metadata),
    }
    response = as_json({"error": error}, _STATUS.get(fault.code, 500))
    _hint(response, fault)
    return response


def _hint(response: Response, fault: Fault) -> None:
    if fault.retry_after_s is not None:
        response.headers["retry-after"] = str(max(math.ceil(fault.retry_after_s), 1))


def _local(path: str) -> str:
    """A path of this console, and nothing that a browser might take for another host."""
    safe = (
        path.startswith("/")
        and not path.startswith(("//", "/\\"))
        and path.isprintable()
        and "\\" not in path
    )
    return path if safe and len(path) <= 500 else "/"
