"""Processes of the data plane as control sees them: real followers' state machines that apply at once, at a real socket."""

from collections.abc import Sequence
from typing import Self

from headrace.api.control.v1.resources_pb2 import RejectedResource, WatchRequest, WatchResponse
from headrace.catalog.access import Change, Made, Records, Write
from headrace.hop.client.settings import ClientRules
from headrace.releases.document import to_bytes
from headrace.resources.follower_state import FollowerState, Next, Outcome
from headrace.resources.manifest import Verifier
from tests.hop_control import ThreadControl
from tests.libs.releases.release_stores import REVISION, TEXT, release

# An upper limit where something is waited for that must come.
LONG_S = 25.0
# Control takes an answer for an acknowledgement once its caller has stayed so long.
ACKNOWLEDGED_S = 0.15


def first_release(records: Records) -> Made:
    """The document and its first release."""
    records.change(
        Change("me", "document.store", "flights", [Write("document", f"flights/{REVISION}", TEXT.encode())])
    )
    return deploy(records, 1)


def deploy(records: Records, number: int, action: str = "release.change") -> Made:
    write = Write("release", "flights", to_bytes(release(number)), number - 1)
    return records.change(Change("me", action, "flights", [write]))


class Process:
    """One process of a service. `with` ends its connection."""

    def __init__(self, target: str, public_key: bytes, name: str, service: str = "router") -> None:
        self.name = name
        self.state = FollowerState(name, service, Verifier([public_key]))
        self._remote = ThreadControl(ClientRules(target))

    @property
    def number(self) -> int:
        """Of the position that it has; 0: none."""
        return self.state.part.position.number if self.state.part else 0

    def ask(self, wait_s: float = 0.0, rejected: Sequence[RejectedResource] = ()) -> WatchResponse:
        """The bare answer."""
        return self.watch(self.state.request(wait_s, rejected, ready=True), wait_s)

    def watch(self, request: WatchRequest, wait_s: float = 0.0) -> WatchResponse:
        """As another one would ask."""
        return self._remote.watch(request, wait_s + LONG_S)

    def step(self, wait_s: float = 0.0) -> Outcome:
        """Asks, and takes over what comes, with all its pages."""
        while True:
            outcome = self.state.receive(self.ask(wait_s))
            if outcome.next is not Next.CONTINUE:
                return outcome

    def until(self, number: int, *, acknowledge: bool = True) -> None:
        """Follows until it has the position of that number, and says so."""
        while self.number < number:
            outcome = self.step(LONG_S)
            assert outcome.next in (Next.APPLY, Next.HOLD, Next.NOTHING), outcome
        if acknowledge:
            self.ask(ACKNOWLEDGED_S)

    def close(self) -> None:
        self._remote.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
