"""Who is let in: an operator's key in a header (programs), or a session's cookie (browsers)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.limiters import CONSOLE_SIGN_IN
from services.monitoring.console import faults
from services.monitoring.console.access.attempts import Attempts
from services.monitoring.console.access.operators import SCOPE, KeyRefusedError, Operator, Operators
from services.monitoring.console.access.security_events import SecurityEvents
from services.monitoring.console.access.sessions import EndedError, ForgedError, Session, Sessions
from services.monitoring.console.web.connections import Connections

_BEARER = "bearer "
FIELD = "csrf"
# Without a hint what is wrong with it.
_BAD_KEY = "this key opens nothing here"
_NO_OPERATOR = "this key may not operate; make one that may: headrace keys create ops --scope operate"
_FORGED = "this form is not of this session; open the page again and repeat what you did"


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks. `session` None: by a key in a header, which no other site can make a browser send. `token`: for the forms."""

    operator: Operator
    session: Session | None = None
    token: str = ""


class Guard:
    """`port`: of this console; cookies of all ports of a host are one jar, so it is a part of their names. `tls`: cookies are
    Secure."""

    def __init__(
        self,
        operators: Operators,
        sessions: Sessions,
        attempts: Attempts,
        events: SecurityEvents,
        port: int,
        connections: Connections,
        *,
        tls: bool,
    ) -> None:
        self._connections = connections
        self._operators = operators
        self._sessions = sessions
        self._attempts = attempts
        self._events = events
        self._tls = tls
        self.session_cookie = f"headrace_session_{port}"
        self.visit_cookie = f"headrace_visit_{port}"

    def identify(self, request: Request) -> Access:
        """Who asks; the connection is an operator's from now on. Raises Fault."""
        access = self._access(request)
        self._proven(request)
        return access

    def _proven(self, request: Request) -> None:
        if request.client is not None:
            self._connections.of_operator(request.client)

    def _access(self, request: Request) -> Access:
        key = _key(request)
        if key is not None:
            return Access(self._of_key(request, key))
        cookie = request.cookies.get(self.session_cookie)
        if not cookie:
            raise faults.signed_out()
        try:
            session = self._sessions.read(cookie)
        except ForgedError:
            self._event("forged_session", request)
            raise faults.signed_out() from None
        except EndedError:
            raise faults.signed_out() from None
        if not self._operators.still(session.operator):
            self._event("revoked_session", request, session.operator.about)
            raise faults.signed_out()
        return Access(session.operator, session, self._sessions.form_token(session.nonce))

    def check_form(self, request: Request, access: Access, fields: Mapping[str, str]) -> None:
        """A change must come from a page of ours. Raises Fault."""
        if access.session is None:
            return
        self._check_token(request, access.session.nonce, fields, access.operator.about)

    def sign_in(self, request: Request, fields: Mapping[str, str]) -> Session:
        """A new session for the key of the form. Raises Fault."""
        try:
            nonce = self._sessions.visit_nonce(request.cookies.get(self.visit_cookie, ""))
        except ForgedError:
            self._event("forged_form", request)
            raise faults.forbidden(_FORGED, field=FIELD) from None
        self._check_token(request, nonce, fields, {})
        operator = self._of_key(request, fields.get("key", "").strip())
        self._event("console_sign_in", request, operator.about)
        self._proven(request)
        return self._sessions.begin(operator)

    def note(self, kind: str, request: Request, access: Access, details: Mapping[str, str]) -> None:
        """Records what an operator did."""
        self._event(kind, request, {**access.operator.about, **details})

    async def sign_out(self, access: Access) -> None:
        """Ends the session. Raises Fault: only in this process, as that can't be recorded."""
        if access.session is not None:
            self._sessions.end(access.session)
            try:
                await asyncio.to_thread(self._sessions.ended.save)
            except OSError:
                raise faults.unrecorded(
                    "that you signed out can't be recorded now, so a restart forgets it"
                ) from None

    def begin_visit(self) -> tuple[str, str]:
        """The cookie of somebody who is about to sign in, and the token of the form."""
        cookie = self._sessions.visit()
        return cookie, self._sessions.form_token(self._sessions.visit_nonce(cookie))

    def set_cookie(self, response: Response, name: str, value: str) -> None:
        """A cookie that no script reads, and that no other site can make the browser send. It ends with the browser, if not
        earlier: its own time stands in it."""
        response.set_cookie(name, value, httponly=True, samesite="strict", secure=self._tls)

    def set_session(self, response: Response, session: Session) -> None:
        """The session's cookie."""
        self.set_cookie(response, self.session_cookie, self._sessions.cookie(session))

    def renew(self, response: Response, access: Access) -> None:
        """Gives the session more time, as somebody looked at a page."""
        if access.session is not None and (renewed := self._sessions.renewed(access.session)) is not None:
            self.set_session(response, renewed)

    def forget(self, response: Response) -> None:
        """Takes the session's cookie away."""
        response.delete_cookie(self.session_cookie, httponly=True, samesite="strict", secure=self._tls)

    def _of_key(self, request: Request, key: str) -> Operator:
        """The right key is always accepted, so nobody locks out operators. All others are refused alike while they are limited:
        what is no key, one that may not operate, one that has expired. Raises Fault."""
        try:
            return self._operators.of_key(key)
        except KeyRefusedError as error:
            if (wait := self._attempts.failed(client(request))) > 0:
                self._event("sign_in_limited", request)
                message = f"{_BAD_KEY}; too many of them, so the next is judged in {wait:.0f} s"
                raise CONSOLE_SIGN_IN.refusal(message, retry_after_s=wait) from None
            self._event(error.kind, request, error.details)
            if error.known:
                raise faults.forbidden(_NO_OPERATOR, scope=SCOPE) from None
            raise Fault(Code.UNAUTHENTICATED, Reason.REASON_CREDENTIAL_INVALID, _BAD_KEY) from None

    def _check_token(
        self, request: Request, nonce: str, fields: Mapping[str, str], who: Mapping[str, str]
    ) -> None:
        try:
            if not _same_origin(request):
                raise ForgedError("origin")
            self._sessions.check_form(nonce, fields.get(FIELD, ""))
        except ForgedError as error:
            self._event("forged_form", request, {**who, "what": str(error)})
            raise faults.forbidden(_FORGED, field=FIELD) from None

    def _event(self, kind: str, request: Request, details: Mapping[str, str] | None = None) -> None:
        self._events.add(kind, client(request), {"path": request.url.path, **(details or {})})


def client(request: Request) -> str:
    """The address of the peer; headers that a caller may write are not believed."""
    return request.client.host if request.client else ""


def _key(request: Request) -> str | None:
    """The key of a header; None: there is none."""
    given = request.headers.get("authorization")
    if given is None:
        return request.headers.get("x-api-key")
    return given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""


def _same_origin(request: Request) -> bool:
    """Whether the browser says that a page of ours sent this; browsers that say nothing are judged by the token alone."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        return False
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
