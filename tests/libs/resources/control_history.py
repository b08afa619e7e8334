"""What control has, and a control that answers by it: a small one, on real sockets, that can be told to misbehave."""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headrace.api.control.v1 import resources_pb2_grpc
from headrace.api.control.v1.resources_pb2 import Resource as ResourceMessage
from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.catalog.access import Position
from headrace.resources.manifest import ANCESTORS, Manifest, Signer, VerifiedPart, Verifier
from headrace.resources.snapshot import Key, Resource, Snapshot


def keys_of(seed: int) -> tuple[bytes, bytes]:
    """A private and its public key (PEM), the same in each process."""
    made = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, made.public_key().public_bytes(serialization.Encoding.PEM, form)


PRIVATE, PUBLIC = keys_of(1)
OTHER_PRIVATE, OTHER_PUBLIC = keys_of(2)
SIGNER, VERIFIER = Signer(PRIVATE), Verifier([PUBLIC])
_salt = itertools.count()


def key(name: str, text: str = "x") -> Resource:
    return Resource.of("key", name, text.encode())


class History:
    """The positions of one database from the first on, with the resources at each."""

    def __init__(self) -> None:
        self.steps: list[tuple[Position, Snapshot]] = []
        self.change(epoch=1)

    def change(self, *written: Resource, deleted: tuple[Key, ...] = (), epoch: int = 0) -> Position:
        before = self.steps[-1][0] if self.steps else Position(1, 0, bytes(32))
        head = hashlib.sha256(before.head + str(next(_salt)).encode()).digest()
        position = Position(epoch or before.epoch, before.number + 1, head)
        self.steps.append((position, self.snapshot.changed(written, deleted)))
        return position

    def begin_epoch(self) -> Position:
        return self.change(epoch=self.position.epoch + 1)

    def restored(self, number: int) -> "History":
        """Another database, as this one was at a position."""
        other = History()
        other.steps = self.steps[:number]
        return other

    @property
    def position(self) -> Position:
        return self.steps[-1][0]

    @property
    def snapshot(self) -> Snapshot:
        return self.steps[-1][1] if self.steps else Snapshot()

    def has(self, position: Position) -> bool:
        return any(p == position for p, _ in self.steps)

    def manifest(self, service: str = "ingress", have: Position | None = None) -> Manifest:
        positions = [p for p, _ in self.steps]
        begins = [p for i, p in enumerate(positions) if i == 0 or positions[i - 1].epoch < p.epoch]
        after = (have.number, have.head) if have is not None and self.has(have) else None
        return Manifest(
            service,
            self.position,
            self.snapshot.digest(),
            len(self.snapshot.resources),
            datetime.now(UTC),
            tuple((p.number, p.head) for p in positions[-1 - ANCESTORS : -1]),
            tuple(begins),
            after,
        )

    def part(self, service: str = "ingress", signer: Signer = SIGNER) -> VerifiedPart:
        return VerifiedPart.of(signer.sign(self.manifest(service)), self.snapshot)

    def response(
        self, request: WatchRequest, page_size: int = 1000, signer: Signer = SIGNER
    ) -> WatchResponse:
        """The honest answer of a control that does not wait."""
        have = None
        if request.HasField("have"):
            have = Position(request.have.epoch, request.have.number, request.have.head)
        if have == self.position and not request.whole:
            return WatchResponse()
        if have is not None and have.epoch == self.position.epoch and not self.has(have):
            return WatchResponse(diverged="what you have is not in my history")
        whole = have is None or request.whole or not self.has(have)
        before = Snapshot() if whole else next(s for p, s in self.steps if p == have)
        now = self.snapshot.resources
        changed = [_message(r) for k, r in now.items() if before.resources.get(k) != r]
        gone = [ResourceMessage(kind=k[0], name=k[1]) for k in before.resources if k not in now]
        found = [*changed, *gone]
        start = request.page_after
        signed = signer.sign(self.manifest(request.service, have))
        return WatchResponse(
            manifest=signed.raw,
            signature=signed.signature,
            whole=whole,
            may_apply=True,
            resources=found[start : start + page_size],
            page=start + page_size if start + page_size < len(found) else 0,
        )


def _message(resource: Resource) -> ResourceMessage:
    return ResourceMessage(
        kind=resource.kind,
        name=resource.name,
        sha256=resource.sha256,
        version=resource.version,
        content=resource.content,
    )


Misbehaviour = Callable[[WatchRequest], WatchResponse]


class SmallControl(resources_pb2_grpc.ResourcesServiceServicer):
    """Serves the history by `Watch`. `misbehave`: answers instead. `requests`: all that came."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.misbehave: Misbehaviour | None = None
        self.requests: list[WatchRequest] = []
        self._changed = threading.Condition()

    def Watch(self, request: WatchRequest, context: Any) -> WatchResponse:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            misbehave = self.misbehave
        if misbehave is not None:
            return misbehave(request)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self.history.response(request).ByteSize() or self.misbehave or not context.is_active()
                ),
                request.wait_ms / 1000,
            )
            misbehave = self.misbehave
        return self.history.response(request) if misbehave is None else misbehave(request)

    def change(self, *written: Resource, deleted: tuple[Key, ...] = ()) -> Position:
        with self._changed:
            position = self.history.change(*written, deleted=deleted)
            self._changed.notify_all()
            return position

    def become(self, history: History, misbehave: Misbehaviour | None = None) -> None:
        with self._changed:
            self.history, self.misbehave = history, misbehave
            self._changed.notify_all()

    def wait_for(self, check: Callable[[list[WatchRequest]], Any], timeout_s: float = 30) -> None:
        """Until the requests so far are so."""
        with self._changed:
            assert self._changed.wait_for(lambda: check(self.requests), timeout_s)


@contextmanager
def served(control: SmallControl, socket: Path) -> Iterator[str]:
    """Its address while it runs."""
    pool = futures.ThreadPoolExecutor(8)
    server = grpc.server(pool)
    resources_pb2_grpc.add_ResourcesServiceServicer_to_server(control, server)  # type: ignore[no-untyped-call]  # generated
    address = f"unix:{socket}"
    server.add_insecure_port(address)
    server.start()
    try:
        yield address
    finally:
        control.become(control.history, lambda _: WatchResponse())
        server.stop(0).wait()
        pool.shutdown()
