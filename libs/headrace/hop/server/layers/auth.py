"""Decides who the peer is and whether it is a trusted part of this installation."""

from __future__ import annotations

from types import TracebackType

from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason

# The socket's directory is private (checked when it is bound), so whoever connects runs as us.
UNIX_PEER = Peer("unix", "same-user", True)


class Auth:
    """Settles `call.peer`. A TLS peer must show one of `peers`, if any are named; its certificate was
    checked against the CA in the handshake. Plain TCP passes, untrusted: the server refuses to listen on it
    unless the settings say so."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        self._peers = frozenset(peers)

    def around(self, call: Call) -> _Around:
        return _Around(self, call)

    def identify(self, peer: Peer) -> Peer:
        """The peer, its identity and trust settled. Raises Fault PERMISSION_DENIED for an unknown name."""
        if peer.transport != "tls":
            return peer
        if not self._peers:
            return Peer("tls", peer.names[0] if peer.names else "", True, peer.names)
        for name in peer.names:
            if name in self._peers:
                return Peer("tls", name, True, peer.names)
        # The names are not echoed: the list of whom we trust is none of a stranger's business.
        raise Fault(
            Code.PERMISSION_DENIED,
            Reason.REASON_PEER_UNTRUSTED,
            "The client certificate is valid, but no name in it is allowed here; the operator can add one.",
        )


class _Around:
    __slots__ = ("_auth", "_call")

    def __init__(self, auth: Auth, call: Call) -> None:
        self._auth = auth
        self._call = call

    async def __aenter__(self) -> None:
        if not self._call.peer.trusted:
            self._call.peer = self._auth.identify(self._call.peer)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
