"""Where the control of an installation is: `HOME/settings/releases.yaml`, or the defaults.

store: control:control.internal:7100?ca=/tls/ca.crt&certificate=/tls/tls.crt&key=/tls/tls.key
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.remote import RemoteRecords, TargetError
from headrace.cli.installation import pid_lock, services
from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.releases.of_records import RecordReleases
from headrace.repository import AccessLog, Repository, Trust
from headrace.repository.model_index import all_indexes


class NotRunningError(config.ConfigError):
    """Control, which says what is live, does not run here."""


class ReleaseSettings(config.Settings):
    """The file's one key."""

    # `control:TARGET` of another machine. Empty: the control of this home.
    store: str = ""


def settings(layout: Layout) -> ReleaseSettings:
    """Raises ConfigError naming file, line and key."""
    path = layout.override("releases")
    return config.load(ReleaseSettings, path, {}) if path.exists() else ReleaseSettings()


def target(layout: Layout) -> str:
    """Where control is, for a client. Raises ConfigError: it does not run here, or the setting names something else."""
    if store := settings(layout).store:
        if not store.startswith("control:"):
            raise config.ConfigError(
                "releases: name where control is: control:unix-dir:/FOLDER or control:HOST:PORT"
            )
        return store.removeprefix("control:")
    sockets = layout.listed(services.CONTROL)
    # While it is started again there is no socket, and clients wait for it.
    if pid_lock.holder(layout.lock) is None and not any(sockets.glob("*.sock")):
        raise NotRunningError(
            f"headrace does not run in {layout.home}, and control says what is live: headrace up --home {layout.home}"
        )
    return f"unix-dir:{sockets}"


def releases(layout: Layout) -> RecordReleases:
    """What is live; it connects at the first call. Raises ConfigError."""
    try:
        return RecordReleases(RemoteRecords(target(layout)))
    except TargetError as error:
        raise config.ConfigError(f"releases: {error}") from None


def models(layout: Layout, trust: Trust | None = None, log: AccessLog | None = None) -> Repository:
    """The models of a home as control lists them, for tools that only look; while it is away, those that have a folder."""
    try:
        with records(layout) as found:
            indexes = all_indexes(found)
    except RecordsUnavailableError:
        return Repository(layout.models, trust=trust, log=log)
    return Repository(layout.models, trust=trust, index=indexes.get, log=log)


@contextmanager
def records(layout: Layout) -> Iterator[RemoteRecords]:
    """What control has. Raises RecordsUnavailableError: it does not run here; the calls raise it, too."""
    try:
        found = RemoteRecords(target(layout))
    except (config.ConfigError, ValueError) as error:
        raise RecordsUnavailableError(Unavailable.UNREACHABLE, str(error)) from None
    try:
        yield found
    finally:
        found.close()
