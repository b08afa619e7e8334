"""Deploys a version one service at a time, looks at each before the next, and puts all back at the first bad one.

Leaves come first and the door last, in the order of the target: what a contract has new is then there before anyone asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import Manifest
from headrace.delivery.oci import checked_digest
from headrace.delivery.records import Records, Result


@dataclass(frozen=True, slots=True)
class Image:
    """One that may run. `version`: what people call it."""

    digest: str
    version: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a target found. `why`: why it is not healthy, empty if it is; `calls`, `failed`: requests counted so far,
    and those of them that failed by our fault; counts may begin anew."""

    why: str = ""
    calls: float = 0.0
    failed: float = 0.0


class Target(Protocol):
    """Where services run."""

    @property
    def name(self) -> str:
        """What the record calls it."""
        ...

    def services(self) -> Sequence[str]:
        """All that run there, each after those that it calls."""
        ...

    def running(self, service: str) -> Image | None:
        """What was deployed there last; None: nothing yet, so what is there without a deployment. Raises DeliveryError."""
        ...

    def deploy(self, service: str, image: Image | None) -> None:
        """Has the service run it; returns once it serves. None: what is there without a deployment.

        Raises DeliveryError: it does not; what ran before may serve on.
        """
        ...

    def look(self, service: str) -> Look:
        """How the service and the requests are now. Raises DeliveryError."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """`looks`: how often a service is looked at, `every_s` seconds apart, before the next is deployed. Bad: one look that is not
    healthy, or more than `failed_ratio` of at least `least_calls` requests since the service was deployed failed by our fault."""

    looks: int = 5
    every_s: float = 2.0
    failed_ratio: float = 0.01
    least_calls: int = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `service`, `why`: which one was bad, and how; empty after a success."""

    result: Result
    service: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Deployer:
    """`wait`: waits for seconds; `told`: what happens, for people."""

    target: Target
    records: Records
    rules: Rules
    wait: Callable[[float], None]
    told: Callable[[str], None]

    def deploy(self, manifest: Manifest, author: str, only: Sequence[str] = ()) -> Outcome:
        """Deploys the images of `manifest`, or those of the services `only`. Raises DeliveryError: nothing was done."""
        order = self._order(manifest, only)
        images = {service: checked_digest(manifest.images[service]) for service in order}
        before = {service: self.target.running(service) for service in order}
        identity = self.records.began(manifest.version, self.target.name, images, author)
        outcome = Outcome(Result.FAILED, why="it was cut off")
        try:
            outcome = self._all({s: Image(digest, manifest.version) for s, digest in images.items()}, before)
        finally:
            self.records.ended(identity, outcome.result, outcome.service, outcome.why)
        return outcome

    def _order(self, manifest: Manifest, only: Sequence[str]) -> list[str]:
        there = self.target.services()
        wanted = only or [s for s in there if s in manifest.images]
        if unknown := [s for s in wanted if s not in there or s not in manifest.images]:
            raise DeliveryError(
                f"{', '.join(unknown)}: not in version {manifest.version} and on {self.target.name}; "
                f"there are: {', '.join(s for s in there if s in manifest.images) or 'none'}"
            )
        if not wanted:
            raise DeliveryError(f"version {manifest.version} has no service that runs on {self.target.name}")
        return [s for s in there if s in wanted]

    def _all(self, images: Mapping[str, Image], before: Mapping[str, Image | None]) -> Outcome:
        done: list[str] = []
        for service, image in images.items():
            there = before[service]
            if there is not None and there.digest == image.digest:
                self.told(f"{service} runs this image already, since {there.version}")
                continue
            done.append(service)
            if why := self._one(service, image):
                self.told(f"{service} is bad: {why}")
                return self._back(done, before, why)
            self.told(f"{service} runs {image.version}")
        return Outcome(Result.SUCCEEDED)

    def _one(self, service: str, image: Image) -> str:
        """Why it is bad; empty if it is good."""
        try:
            self.target.deploy(service, image)
            first = self.target.look(service)
            for _ in range(self.rules.looks):
                if first.why:
                    return first.why
                self.wait(self.rules.every_s)
                now = self.target.look(service)
                if why := now.why or self._failing(first, now):
                    return why
        except DeliveryError as error:
            return str(error)
        return first.why

    def _failing(self, first: Look, now: Look) -> str:
        # A door that was replaced counts from zero.
        calls = now.calls - first.calls if now.calls >= first.calls else now.calls
        failed = now.failed - first.failed if now.failed >= first.failed else now.failed
        if calls < self.rules.least_calls or failed <= self.rules.failed_ratio * calls:
            return ""
        return f"{failed:g} of {calls:g} requests failed since it was deployed"

    def _back(self, done: Sequence[str], before: Mapping[str, Image | None], why: str) -> Outcome:
        """Callers first, so that nobody asks an old callee for what is new."""
        bad = done[-1]
        for service in reversed(done):
            try:
                self.target.deploy(service, before[service])
                self.told(f"{service} was rolled back")
            except DeliveryError as error:
                return Outcome(Result.FAILED, bad, f"{why}; {service} could not be rolled back: {error}")
        return Outcome(Result.ROLLED_BACK, bad, why)
