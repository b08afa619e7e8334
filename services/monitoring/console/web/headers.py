"""The headers of every answer, and which hosts are answered: around the whole application."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No script and no style but our own files; nothing from elsewhere; in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with it, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Adds the headers. `tls`: whether this address has TLS; without it, only names that mean this machine are answered: a
    stranger's name that was made to point here (DNS rebinding) would give the stranger's pages our answers."""

    def __init__(self, application: ASGIApp, *, tls: bool) -> None:
        self._application = application
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers[name] = value
                static = scope["path"].startswith("/static/") and message["status"] in (200, 304)
                headers.setdefault("cache-control", "public, max-age=86400" if static else "no-store")
                if self._tls:
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        application = self._application
        if not self._tls and not _is_here(Headers(scope=scope).get("host", "")):
            application = PlainTextResponse("call the console by its address\n", 421)
        await application(scope, receive, with_headers)


def _is_here(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True
