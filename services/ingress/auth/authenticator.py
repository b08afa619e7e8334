"""Who calls: API keys and JSON Web Tokens → a Credential, or UNAUTHENTICATED without a hint which part was wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from headrace.access.specs import key_digest
from headrace.hop.errors import Code, Fault, Reason
from services.ingress.auth.directory import Directory
from services.ingress.auth.tokens import TokenVerifier
from services.ingress.documents.catalog import Credential
from services.ingress.request_context import RequestContext

SecurityEvent = Callable[[str, RequestContext, Mapping[str, str]], None]
"""(kind, context, details): called for each refusal. Kinds are few; details hold no secret."""

_MAX_CREDENTIAL_BYTES = 8192
_BEARER = b"bearer "
_KEY_ID = re.compile(rb"hr_([0-9a-f]{8})_")


class Authenticator:
    """Finds the credential of a request. `directory` None: nothing is known yet. `clock`: seconds since the epoch."""

    def __init__(
        self,
        directory: Directory | None,
        clock: Callable[[], float],
        on_event: SecurityEvent,
        tokens: TokenVerifier | None = None,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._on_event = on_event
        self._tokens = tokens
        # What keys were found to be, as long as the directory stands.
        self._known: dict[bytes, Credential] = {}

    def replace(self, directory: Directory) -> None:
        """From now on these tenants and keys count; nothing of the old ones is remembered."""
        self._directory = directory
        self._known = {}

    def authenticate(self, context: RequestContext) -> Credential:
        """The credential in the context's `authorization: Bearer …` or `x-api-key`. Raises Fault UNAUTHENTICATED,
        UNAVAILABLE while nobody's keys are known.

        A key's hash is worked out once, until the directory is replaced: revocation does that.
        """
        headers = context.headers
        secret = headers.get(b"authorization")
        if secret is None:
            secret = headers.get(b"x-api-key", b"")
        elif secret[:7].lower() == _BEARER:
            secret = secret[7:].strip()
        else:
            raise self._refused(context, "unknown_scheme")
        found = self._known.get(secret) or self._found(secret, context)
        if found.expires is not None and found.expires <= self._clock():
            raise self._refused(context, "expired_credential", tenant=found.tenant.name, key=found.key_id)
        return found

    def _found(self, secret: bytes, context: RequestContext) -> Credential:
        if self._directory is None:
            raise Fault(
                Code.UNAVAILABLE,
                Reason.REASON_UNREACHABLE,
                "this door does not know yet who may call; try again",
            )
        if not secret:
            raise self._refused(context, "missing_credential")
        if len(secret) > _MAX_CREDENTIAL_BYTES:
            raise self._refused(context, "oversized_credential")
        if (found := self._directory.keys.get(key_digest(secret))) is not None:
            # As many as there are keys: what is no key is not kept.
            self._known[secret] = found
            return found
        if self._tokens is not None and secret.count(b".") == 2:
            if (found := self._tokens.verify(secret)) is None:
                raise self._refused(context, "bad_token")
            return found
        named = _KEY_ID.match(secret)
        # The id is no secret, and says whose key it was, or who is tried.
        raise self._refused(context, "unknown_key", **({"key": named[1].decode()} if named else {}))

    def _refused(self, context: RequestContext, kind: str, **details: str) -> Fault:
        self._on_event(kind, context, details)
        return Fault(
            Code.UNAUTHENTICATED,
            Reason.REASON_CREDENTIAL_INVALID,
            "no valid credential: send `authorization: Bearer KEY` or `x-api-key: KEY`",
        )
