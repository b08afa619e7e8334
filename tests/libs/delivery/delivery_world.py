"""A registry with a published version, and a target whose services a test can break."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from headrace.delivery.deployer import Deployer, Image, Look, Rules
from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import Manifest
from headrace.delivery.oci import Registry
from headrace.delivery.records import Records
from headrace.repository.signing import key_pair

BEGIN = datetime(2026, 5, 4, 12, tzinfo=UTC)
LEAVES_FIRST = ("features", "router", "ingress")


@dataclass
class Keys:
    """A pair."""

    private: Path
    public: Path

    @classmethod
    def made(cls, folder: Path, name: str = "models") -> Self:
        keys = cls(folder / f"{name}.key", folder / f"{name}.pub")
        key_pair.generate(keys.private, keys.public)
        return keys


def registry(folder: Path) -> Registry:
    made = Registry(folder / "registry")
    made.make()
    return made


def image(target: Registry, content: bytes = b"code") -> str:
    layer = {"mediaType": "application/octet-stream", "digest": target.put(content), "size": len(content)}
    return target.put_manifest([layer], "application/vnd.test")


def version(name: str, letter: str = "a") -> Manifest:
    """Of images that are nowhere."""
    return Manifest(name, dict.fromkeys(LEAVES_FIRST, f"sha256:{letter * 64}"))


@dataclass
class Clock:
    """Stands until it is moved."""

    now: datetime = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Machine:
    """A target. `bad`: (service, version) → why it does not start; `look_at`: what a look finds."""

    bad: dict[tuple[str, str], str] = field(default_factory=dict)
    runs: dict[str, Image | None] = field(default_factory=lambda: dict.fromkeys(LEAVES_FIRST))
    done: list[tuple[str, str]] = field(default_factory=list)
    look_at: Callable[[str], Look] = lambda _service: Look()
    name: str = "machine"

    def services(self) -> Sequence[str]:
        return LEAVES_FIRST

    def running(self, service: str) -> Image | None:
        return self.runs[service]

    def deploy(self, service: str, image: Image | None) -> None:
        named = image.version if image else ""
        self.done.append((service, named))
        if why := self.bad.get((service, named)):
            raise DeliveryError(why)
        self.runs[service] = image

    def look(self, service: str) -> Look:
        return self.look_at(service)


def deployer(folder: Path, machine: Machine, clock: Clock) -> Deployer:
    records = Records(folder / "deployments.jsonl", clock)
    return Deployer(machine, records, Rules(), clock.pass_s, lambda _: None)
