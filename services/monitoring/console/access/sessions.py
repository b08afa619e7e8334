"""Sessions in signed cookies, and the tokens of forms. Pure: the clock and the secret are passed in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.monitoring.console.access.ended_sessions import EndedSessions
from services.monitoring.console.access.operators import Operator

_MAX_COOKIE = 2048
# A cookie is written anew when a page is asked for and so much of its time is over.
_RENEW = 0.2
# A session ends after so long without a page, and at the latest so long after the sign-in, in seconds.
SESSION_S, LONGEST_S = 1800.0, 8 * 3600.0


class ForgedError(Exception):
    """A cookie or a token that this installation has not made."""


class EndedError(Exception):
    """A session that was ours and is over."""


@dataclass(frozen=True, slots=True)
class Session:
    """Times in seconds since 1970: `began` at the sign-in, `ends` without a further page. `nonce`: which session it is."""

    operator: Operator
    nonce: str
    began: float
    ends: float


class Sessions:
    """Makes and reads the cookies of sessions and of visits (before the sign-in)."""

    def __init__(self, secret: bytes, wall: Callable[[], float], ended: EndedSessions) -> None:
        self._secret = secret
        self._wall = wall
        self.ended = ended

    def begin(self, operator: Operator) -> Session:
        """A new session."""
        now = self._wall()
        return Session(operator, secrets.token_urlsafe(18), now, now + SESSION_S)

    def cookie(self, session: Session) -> str:
        """The cookie's value."""
        operator = session.operator
        content = [operator.tenant, operator.key_id, session.nonce, session.began, session.ends]
        body = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()
        return f"{body}.{self._sign('session', body)}"

    def read(self, cookie: str) -> Session:
        """The session of a cookie. Raises ForgedError, EndedError."""
        body, _, signature = cookie.rpartition(".")
        if len(cookie) > _MAX_COOKIE or not _same(signature, self._sign("session", body)):
            raise ForgedError("session")
        # From here on it is what `cookie` has written.
        tenant, key_id, nonce, began, ends = json.loads(base64.urlsafe_b64decode(body))
        session = Session(Operator(tenant, key_id), nonce, began, ends)
        if session.ends <= self._wall() or self.ended.has(session.nonce, session.began):
            raise EndedError("session")
        return session

    def renewed(self, session: Session) -> Session | None:
        """The session with more time; None: it is not yet worth a new cookie."""
        now = self._wall()
        ends = min(now + SESSION_S, session.began + LONGEST_S)
        return replace(session, ends=ends) if ends - session.ends >= _RENEW * SESSION_S else None

    def end(self, session: Session) -> None:
        """From now on its cookie opens nothing here; elsewhere and after a restart, once `ended.save` has written it."""
        self.ended.add(session.nonce, session.began + LONGEST_S)

    def form_token(self, nonce: str) -> str:
        """The token that forms of a session (or visit) carry; another site can't know it."""
        return self._sign("form", nonce)

    def check_form(self, nonce: str, token: str) -> None:
        """Raises ForgedError."""
        if not _same(token, self.form_token(nonce)):
            raise ForgedError("form")

    def visit(self) -> str:
        """The cookie of somebody who is about to sign in; its value is the nonce of the form."""
        nonce = secrets.token_urlsafe(18)
        return f"{nonce}.{self._sign('visit', nonce)}"

    def visit_nonce(self, cookie: str) -> str:
        """Raises ForgedError."""
        nonce, _, signature = cookie.rpartition(".")
        if not _same(signature, self._sign("visit", nonce)):
            raise ForgedError("visit")
        return nonce

    def _sign(self, what: str, text: str) -> str:
        digest = hmac.digest(self._secret, f"{what}\0{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
