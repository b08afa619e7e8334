"""Where the keys of an installation are: `HOME/settings/encryption.yaml`; without that file nothing is sealed.

file: /etc/headrace/home.keys
# or: pkcs11: {module: /usr/lib/softhsm/libsofthsm2.so, token: headrace, pin_file: /etc/headrace/pin}
renew_s: 300
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import yaml

from headrace.audit.settings import Audit
from headrace.cli.installation.audit import audit_place
from headrace.cli.installation.layout import Layout
from headrace.encryption import EncryptionSettings, KeysAwayError, Sealer, Store, sealer_of
from headrace.encryption.files import SealedFiles
from headrace.encryption.kms.file_kms import FileKms, make
from headrace.hop import config
from headrace.recordings.writer import sealed_files as recordings
from headrace.state import atomic

# Files of the services, as services.monitoring.events.storage.files and services.router.events.regulated.journal_file name them;
# a test compares them.
_EVENTS = "events", ("segments/*.parquet", "open/*.arrows", "unreadable/*.unreadable")
_JOURNAL = "journal", ("*.journal", "*.journal.unreadable")


def settings(layout: Layout) -> EncryptionSettings | None:
    """None: nothing is sealed here. Raises ConfigError naming file, line and key."""
    path = layout.override("encryption")
    return config.load(EncryptionSettings, path, {}) if path.exists() else None


def of_services(layout: Layout) -> dict[str, object]:
    """The section of each service that writes such files; none: they are plain. Raises ConfigError."""
    found = settings(layout)
    return {} if found is None else {"encryption": found.model_dump(mode="json", exclude_none=True)}


def sealer(layout: Layout) -> Sealer | None:
    """For commands. Raises ConfigError."""
    return sealer_of(settings(layout))


def stores(layout: Layout) -> tuple[Store, ...]:
    """All that may be sealed in a home. Raises ConfigError."""
    events, journal = _EVENTS, _JOURNAL
    found: list[Store] = [
        *Audit(audit_place.settings(layout)).stores,
        SealedFiles(events[0], layout.events, events[1]),
        SealedFiles(journal[0], layout.journal, journal[1]),
    ]
    if (folder := _override(layout, "router", "recording", "folder")) is not None:
        found.append(recordings(Path(str(folder))))
    return tuple(found)


def has_far_segments(layout: Layout) -> bool:
    """Whether segments of events are moved to an object store, where commands do not look. Raises ConfigError."""
    return _override(layout, "monitoring", "events", "segments") is not None


def _override(layout: Layout, service: str, *keys: str) -> object:
    """What a person set for a service; None: nothing. Raises ConfigError."""
    path = layout.override(service)
    found: object = dict(config.read(path).values) if path.exists() else None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def default_file(layout: Layout) -> Path:
    """Where `headrace up --encrypt` makes the keys: in this user's settings, not in the home, so that no copy or backup of the
    home has them. Raises ConfigError: this user has no folder."""
    tag = hashlib.sha256(os.fsencode(layout.home)).hexdigest()[:12]
    try:
        return Path.home() / ".config" / "headrace" / f"encryption-{tag}.keys"
    except RuntimeError:
        raise config.ConfigError("this user has no home folder; say where the keys go: --keys FILE") from None


def switch_on(layout: Layout, file: Path | None) -> tuple[Path | None, bool]:
    """From the next start on, the services seal with the keys in `file`, which is made if it is not there.

    Returns the file (None: a token), and whether this was new. Raises ConfigError, OSError.
    """
    there = settings(layout)
    if there is not None:
        if file is not None and there.file != file.absolute():
            raise config.ConfigError(
                f"{layout.override('encryption')} names other keys already; to move them: headrace down, copy the file, edit that"
            )
        return there.file, False
    path = (file or default_file(layout)).absolute()
    if path.is_relative_to(layout.home):
        raise config.ConfigError(
            f"{path} is in the home: whoever copies that reads what is sealed; name a file elsewhere (--keys)"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # A name that no other installation has: what other keys seal is told apart from what is damaged.
        make(path, f"headrace-{secrets.token_hex(4)}")
        name, _, _ = FileKms(path).current().rpartition("/")
    except KeysAwayError as error:
        raise config.ConfigError(str(error)) from error
    write(layout, EncryptionSettings(file=path, name=name))
    return path, True


def write(layout: Layout, found: EncryptionSettings) -> None:
    """Writes the settings. Raises OSError."""
    path = layout.override("encryption")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = found.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    atomic.write(path, yaml.safe_dump(content, sort_keys=False).encode(), mode=0o600)


def problem(layout: Layout) -> KeysAwayError | None:
    """Why the keys can't be used now; None: they can, or none are set. A token is asked, too. Raises ConfigError."""
    found = sealer(layout)
    if found is None:
        return None
    try:
        found.keys.kms.current()
    except KeysAwayError as error:
        return error
    return None
