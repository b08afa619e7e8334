"""Where the audit of an installation is: its folder, its keys, the journals that it is made of, and its witnesses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from headrace.audit.access import Access
from headrace.audit.collector import Collector
from headrace.audit.contents import ACTS
from headrace.audit.journals import Journal
from headrace.audit.notes import NoteError, Verifier, read_signer, read_verifier
from headrace.audit.persons.payloads import Payloads
from headrace.audit.reader import Reader
from headrace.audit.witness import Asked, HttpTransport, TimestampClient, Witness, WitnessClient
from headrace.audit.witness.client import Transport, UnusableWitness
from headrace.audit.writer import Writer
from headrace.hop import config

_WALL = time.time  # noqa: TID251 - witnesses say when they signed
# It is the name of a file.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class WitnessSettings(config.Settings):
    """One witness; `url`, `folder` or `timestamp_url`."""

    # Of `headrace audit witness` on another machine.
    url: str = ""
    # A folder on another disk or machine, in which this process itself signs, with the private key `signer`. Weaker: whoever
    # holds that key here can sign anything.
    folder: Path | None = None
    signer: Path | None = None
    # Of a timestamping authority (RFC 3161). It signs that a checkpoint was there, and when; it keeps nothing.
    timestamp_url: str = ""
    # It is asked no more often.
    timestamp_s: PositiveFloat = 3600.0
    # File with the witness's public key; of an authority: its root certificates, and any between (PEM).
    key: Path

    @model_validator(mode="after")
    def _one_way(self) -> WitnessSettings:
        ways = (bool(self.url), self.folder is not None, bool(self.timestamp_url))
        if sum(ways) != 1 or (self.folder is None) != (self.signer is None):
            raise ValueError("it takes url, or folder and signer, or timestamp_url")
        for name, url in (("url", self.url), ("timestamp_url", self.timestamp_url)):
            if url and not url.startswith(("http://", "https://")):
                raise ValueError(f"{name} must begin with http:// or https://")
        return self


class AuditSettings(config.Settings):
    """The audit log, and what is taken into it."""

    # Folder of the log (`log`), of what tells of persons (`persons`), and of the journals of readings (`audit.jsonl`)
    # and of what machines share in Redis (`shared.jsonl`).
    folder: Path
    # Files of the log's private and public key.
    key: Path
    public_key: Path
    # The journals: hash chains of models, of releases and of deployments, the door's security events.
    models: Path | None = None
    releases: Path | None = None
    deployments: Path | None = None
    security: Path | None = None
    # By name.
    witnesses: dict[str, WitnessSettings] = Field(default={}, max_length=16)
    # How often a checkpoint is signed, if there are new entries.
    checkpoint_s: PositiveFloat = 10.0
    # How often journals are looked at.
    poll_s: PositiveFloat = 0.25
    # Lines that tell of persons are deleted so many days later.
    persons_days: PositiveFloat = 365.0
    # And the oldest of them once all have more bytes than this; what they were committed to stays in the log.
    persons_bytes: PositiveInt = 1 << 30

    @field_validator("witnesses")
    @classmethod
    def _named(cls, witnesses: dict[str, WitnessSettings]) -> dict[str, WitnessSettings]:
        if wrong := [name for name in witnesses if not _NAME.fullmatch(name)]:
            raise ValueError(f"the name {wrong[0]!r} has other than small letters, digits and hyphens")
        return witnesses


def utc_now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


class Audit:
    """The parts of an installation's audit."""

    def __init__(
        self,
        settings: AuditSettings,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.log = settings.folder / "log"
        self.access = Access(settings.folder / f"{ACTS}.jsonl", clock)
        # What machines share in Redis of the audit of releases, as the monitoring service copies it.
        self.shared = settings.folder / "shared.jsonl"
        self.payloads = Payloads(settings.folder / "persons", clock)

    @property
    def journals(self) -> tuple[Journal, ...]:
        """All journals, that of readings too."""
        chains = (
            ("models", self.settings.models),
            ("releases", self.settings.releases),
            ("deployments", self.settings.deployments),
            ("shared", self.shared),
            (ACTS, self.access.path),
        )
        found = [Journal(name, path, chained=True) for name, path in chains if path is not None]
        if (path := self.settings.security) is not None:
            found.append(Journal("security", path, personal=True, lock=_lock_of(path)))
        return tuple(found)

    def verifier(self) -> Verifier:
        """The log's public key. Raises OSError, NoteError."""
        return read_verifier(self.settings.public_key)

    def reader(self) -> Reader:
        """Raises OSError, NoteError: the public key can't be used."""
        return Reader(self.log, self.verifier(), self.access, self.payloads)

    def collecting(self) -> tuple[Writer, Collector]:
        """For the one process that writes. Raises LogBusyError, LogError, NoteError, OSError."""
        writer = Writer(self.log, read_signer(self.settings.key))
        try:
            places = self.settings.folder / "places.json"
            return writer, Collector(writer, self.payloads, self.journals, self.clock, places)
        except BaseException:
            writer.close()
            raise

    def witnesses(self) -> list[Asked]:
        """One whose own key can't be used says so when it is asked. Raises OSError, NoteError: the log's key can't be."""
        log = self.verifier()
        return [_asked(name, settings, self.log, log) for name, settings in self.settings.witnesses.items()]


def _lock_of(security: Path) -> Path:
    """The file that writers of the security events lock (state/security.py)."""
    return security.with_name(f".{security.name}.lock")


def _asked(name: str, settings: WitnessSettings, folder: Path, log: Verifier) -> Asked:
    if url := settings.timestamp_url:
        return TimestampClient(name, url, settings.key, folder, log, settings.timestamp_s, _WALL)
    try:
        return WitnessClient(name, _transport(settings, log), read_verifier(settings.key), folder, log)
    except (OSError, NoteError) as error:
        return UnusableWitness(name, f"its key can't be used ({error})")


def _transport(settings: WitnessSettings, log: Verifier) -> Transport:
    if settings.folder is None or settings.signer is None:
        return HttpTransport(settings.url)
    return Witness(settings.folder, read_signer(settings.signer), [log], _WALL)
