"""What a caller may do, by the names in its certificate. The unix socket and this process are the installation's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headrace.hop.call import Peer
from headrace.releases.ladder import LEASE
from headrace.releases.of_records import DOCUMENT, FREEZE, RELEASE, REMOVAL
from headrace.repository.model_index import MODEL
from services.control import errors

# The service that judges rollouts, and what it reads.
_JUDGE, _JUDGED = "monitoring", frozenset({RELEASE, DOCUMENT, REMOVAL, FREEZE, MODEL})


class Identities:
    """`may_change`: names whose owners may change records. `services`: name → the service that it is. `parts`: the kinds of
    records that each service follows."""

    def __init__(
        self,
        may_change: Iterable[str],
        services: Mapping[str, str],
        parts: Mapping[str, Iterable[str]],
    ) -> None:
        self._may_change = frozenset(may_change)
        self._services = services
        self._parts = {service: frozenset(kinds) for service, kinds in parts.items()}

    def check_change(self, peer: Peer) -> None:
        """Raises Fault: the peer may not change records, take leases or read the audit."""
        if not self._changes(peer):
            raise errors.not_allowed("change records")

    def check_lease(self, peer: Peer, name: str) -> None:
        """Raises Fault: the peer may not take this lease. Who judges rollouts needs no right to change records for its own."""
        if name != LEASE or _JUDGE not in self._services_of(peer):
            self.check_change(peer)

    def check_judge(self, peer: Peer) -> None:
        """Raises Fault: the peer does not judge rollouts, and is no operator. Services that follow records, and may change some,
        are neither."""
        services = self._services_of(peer)
        operator = self._changes(peer) and services.isdisjoint(self._parts)
        if not _inside(peer) and _JUDGE not in services and not operator:
            raise errors.not_allowed("judge rollouts")

    def check_read(self, peer: Peer, kind: str) -> None:
        """Raises Fault: records of this kind are not the peer's to read. Services read what they follow."""
        if self._changes(peer):
            return
        parts = {_JUDGE: _JUDGED, **self._parts}
        if not any(kind in parts.get(service, ()) for service in self._services_of(peer)):
            raise errors.not_allowed(f"read records of the kind {kind[:40]!r}")

    def check_watch(self, peer: Peer, service: str) -> None:
        """Raises Fault: there is no such service, or the peer is another one."""
        if service not in self._parts:
            raise errors.malformed("service", f"one of {', '.join(sorted(self._parts))}")
        if not _inside(peer) and service not in self._services_of(peer):
            raise errors.not_allowed(f"follow what is live as {service}")

    def check_known(self, peer: Peer) -> None:
        """Raises Fault: the peer is no authenticated part of the installation."""
        if not peer.trusted:
            raise errors.not_allowed("call control")

    def _changes(self, peer: Peer) -> bool:
        return _inside(peer) or (peer.trusted and not self._may_change.isdisjoint(peer.names))

    def _services_of(self, peer: Peer) -> set[str]:
        return {self._services.get(name, name) for name in peer.names} if peer.trusted else set()


def _inside(peer: Peer) -> bool:
    return peer.trusted and peer.transport in ("unix", "local")
