"""JSON Web Tokens: verified with the issuer's published keys, which are fetched in the background."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt

from headrace.access.specs import narrowed
from services.ingress.auth.directory import Directory
from services.ingress.config import Jwt
from services.ingress.documents.catalog import Credential

_REMEMBERED = 4096
_MAX_JWKS_BYTES = 1 << 20
_FETCH_TIMEOUT_S = 5.0


def fetch_jwks(location: str) -> str:
    """The text of a key set in a file or at an https URL (http to loopback). Blocks. Raises OSError or ValueError."""
    if "://" not in location:
        return Path(location).read_text()
    where = urllib.parse.urlsplit(location)
    # Compared whole: `http://localhost.example` begins like loopback, too.
    loopback = where.scheme == "http" and where.hostname in ("127.0.0.1", "localhost")
    if where.scheme != "https" and not loopback:
        raise ValueError("a key set is fetched by https only")
    with urllib.request.urlopen(location, timeout=_FETCH_TIMEOUT_S) as response:  # noqa: S310 - schemes checked above
        text: bytes = response.read(_MAX_JWKS_BYTES)
    return text.decode()


class TokenVerifier:
    """Verifies tokens of one issuer.

    `directory`: the tenants now. Verified tokens are remembered (a signature costs ~100 µs) until they expire, or
    until `refresh` brings other keys; whether their tenant still exists is looked up each time.
    """

    def __init__(
        self,
        settings: Jwt,
        directory: Callable[[], Directory | None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._text = ""
        self._keys: dict[str, jwt.PyJWK] = {}
        self._remembered: dict[bytes, tuple[str, frozenset[str], float]] = {}

    async def refresh(self) -> None:
        """Reads the key set again; the old one stays when that fails. Raises OSError or ValueError."""
        text = await asyncio.to_thread(fetch_jwks, self._settings.jwks)
        if text == self._text:
            return
        try:
            keys = jwt.PyJWKSet.from_dict(json.loads(text)).keys
        except (jwt.PyJWTError, AttributeError, TypeError) as error:  # the latter two: JSON of another form
            raise ValueError(f"not a usable key set: {error}") from error
        self._text = text
        self._keys = {key.key_id or "": key for key in keys}
        self._remembered.clear()

    def verify(self, token: bytes) -> Credential | None:
        """The identity that a token proves; None if it is not a valid one of this issuer for a known tenant."""
        known = self._remembered.get(token)
        if known is None:
            known = self._decode(token)
            if known is None:
                return None
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[token] = known
        name, scopes, expires = known
        directory = self._directory()
        tenant = None if directory is None else directory.tenants.get(name)
        if directory is None or tenant is None:
            return None
        return Credential(tenant, "jwt", narrowed(directory.scopes[name], scopes), expires)

    def _decode(self, token: bytes) -> tuple[str, frozenset[str], float] | None:
        settings = self._settings
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None or key.algorithm_name not in settings.algorithms:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError:
            return None
        tenant, scopes = claims.get(settings.tenant_claim), claims.get(settings.scope_claim, [])
        words = scopes.split() if isinstance(scopes, str) else scopes
        if not isinstance(tenant, str) or not isinstance(words, list):
            return None
        return (
            tenant,
            frozenset(w for w in words if isinstance(w, str)),
            float(claims["exp"]) + settings.leeway_s,
        )
