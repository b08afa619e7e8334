"""How a protocol describes itself to the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.ingress.protocols.asgi import Application
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.unary import Intake, UnaryProtocol
from services.ingress.wiring import Ingress


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that protocols are built from. `codecs`: by name, `proto` and `json`. `unknown`: answers what nobody serves."""

    ingress: Ingress
    intake: Intake
    codecs: Mapping[str, Codec]
    unknown: Application


@dataclass(frozen=True, slots=True)
class UnaryEntry:
    """A protocol of unary calls of the door's operations, chosen by content type. `codecs`: content type → name of the codec."""

    name: str
    codecs: Mapping[bytes, str]
    make: Callable[[Intake], UnaryProtocol]


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A protocol with its own paths: `prefix` and everything below it. "" takes all requests that no other protocol takes."""

    name: str
    prefix: str
    make: Callable[[Parts], Application]


Entry = UnaryEntry | PathEntry
