"""The store that a setting names: a folder (`/var/lib/headrace/releases`), a Redis (`redis://HOST:6379/0`, or by Sentinels) or a
control (`control:unix-dir:/run/headrace/control`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from headrace.hop.config import ConfigError
from headrace.pipeline import Pipeline
from headrace.releases.catalog import ReleaseCatalog
from headrace.releases.files import FileReleases
from headrace.releases.redis import RedisPlace, RedisReleases
from headrace.releases.store import ReleaseStore
from headrace.state.redis_address import ManyServers, many_servers

FORMS = "a folder, control:TARGET, redis://HOST:PORT/DATABASE, redis+sentinel://HOST:PORT,HOST:PORT/NAME, or rediss… (TLS)"
_CONTROL = "control:"
_OPTIONS = frozenset({"password_file", "ca", "certificate", "key", "prefix"})


class PlaceError(ValueError):
    """A setting names no store of releases. The text names what is wrong with it, never a password."""


def open_store(place: str) -> ReleaseStore:
    """The store that a setting names; it connects at the first call. Raises PlaceError."""
    if place.startswith(_CONTROL):
        return _of_control(place.removeprefix(_CONTROL))
    if "://" not in place:
        if not place:
            raise PlaceError(f"the setting is empty; name {FORMS}")
        return FileReleases(Path(place))
    try:
        return RedisReleases(redis_place(place))
    except ImportError:
        raise PlaceError("Redis needs the package redis: pip install 'headrace[redis]'") from None


def _of_control(target: str) -> ReleaseStore:
    # Imported here: a folder needs no gRPC.
    from headrace.catalog.remote import RemoteRecords, TargetError
    from headrace.releases.of_records import RecordReleases

    try:
        return RecordReleases(RemoteRecords(target))
    except TargetError as error:
        raise PlaceError(f"control: {error}") from None


def open_catalog(
    place: str, kept: Path | None, accept: Callable[[Pipeline], None] = lambda _: None
) -> ReleaseCatalog:
    """What is live, as the store at `place` says, read once. `kept`: folder for copies. Blocks. Raises ConfigError."""
    try:
        store = open_store(place)
    except PlaceError as error:
        raise ConfigError(f"releases: {error}") from None
    return ReleaseCatalog(store, accept=accept, mirror=FileReleases(kept) if kept else None)


def redis_place(url: str) -> RedisPlace:
    """The place of `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?OPTION=…&OPTION=…]`. Raises PlaceError.

    Options: `password_file`, `prefix`, and for rediss `ca`, `certificate` and `key`. Or `redis+sentinel://…`, see
    redis_address.py, with the same options. A password belongs into a file rather than into a setting.
    """
    address, _, options_text = url.partition("?")
    watched = _watched(address)
    # `from None`, here and below: the errors of the standard library quote the text, which may hold a password.
    try:
        parts = urlsplit(address)
        # The Sentinels' hosts are several, which the standard library can't read.
        port = (watched is None and parts.port) or 6379
        query = parse_qs(options_text, keep_blank_values=True, strict_parsing=bool(options_text))
    except ValueError:
        raise PlaceError(f"the address can't be read; name {FORMS}") from None
    if watched is None and parts.scheme not in ("redis", "rediss"):
        raise PlaceError(f"they are not kept at {parts.scheme}://; name {FORMS}")
    if watched is None and not parts.hostname:
        raise PlaceError(f"the address names no host; name {FORMS}")
    if unknown := sorted(set(query) - _OPTIONS):
        raise PlaceError(
            f"{unknown[0][:40]} is no option of a Redis; there are: {', '.join(sorted(_OPTIONS))}"
        )
    return _place(parts, port, watched, {name: values[-1] for name, values in query.items()})


def _place(
    parts: SplitResult, port: int, watched: ManyServers | None, options: Mapping[str, str]
) -> RedisPlace:
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if "password_file" in options:
        password = _password(Path(options["password_file"]))
    prefix = options.get("prefix", "headrace")
    if not prefix or not prefix.replace("-", "").replace("_", "").isalnum():
        raise PlaceError("prefix: use letters, digits, '-' and '_'")
    tls = parts.scheme.startswith("rediss")
    common = (tls, username, password, options.get("ca", ""), prefix)
    shown = (options.get("certificate", ""), options.get("key", ""))
    if bool(shown[0]) != bool(shown[1]):
        raise PlaceError("certificate and key belong together; name both or neither")
    if watched is not None:
        # The account stands in the place alone: a file may name another password.
        return RedisPlace(
            "", 0, watched.database, *common, replace(watched, username=None, password=None), *shown
        )
    return RedisPlace(parts.hostname or "", port, _database(parts.path), *common, None, *shown)


def _watched(address: str) -> ManyServers | None:
    try:
        many = many_servers(address)
    except ValueError as error:
        raise PlaceError(f"{error}; name {FORMS}") from None
    if many is not None and not many.master:
        raise PlaceError(
            "releases lie on one server, so a cluster brings nothing: name a server, or Sentinels"
        )
    return many


def _database(path: str) -> int:
    number = path.strip("/")
    if number and not (number.isascii() and number.isdecimal() and len(number) < 6):
        raise PlaceError("the path of the address must be the number of a database")
    return int(number or 0)


def _password(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PlaceError(f"password_file: {path} can't be read ({why})") from None
