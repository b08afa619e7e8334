"""Settings of hop's servers and clients, and how any service's settings are read: one YAML file, then environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, dataclass_transform, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from headrace.hop.client.settings import (
    LEAST_MESSAGE_BYTES,
    BreakerRules,
    ClientRules,
    CoalesceRules,
    LimiterRules,
    RetryRules,
    TlsFiles,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


# Tells type checkers that subclasses are frozen too, so that they may extend frozen dataclasses.
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class Settings(BaseModel, frozen=True):
    """Base of every settings class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class ClientTls(Settings, TlsFiles):
    """Certificates for mTLS. Who is believed is the name in the certificate: the target's, or `server_name`."""


class Tls(ClientTls):
    """Certificates for mTLS of a server, and who is believed."""

    # Names (DNS or URI SANs) of peers that are believed; empty: any that the CA signed.
    peers: tuple[str, ...] = ()


class Telemetry(Settings):
    """Where logs, metrics and traces go."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # host:port of the HTTP endpoint: metrics for Prometheus, and the probes `/live` and `/ready`; empty: none.
    metrics: str = ""
    # `/live` fails if the event loop has not taken a turn for this long.
    live_s: PositiveFloat = 10.0
    # OTLP/gRPC collector, e.g. "http://127.0.0.1:4317"; empty: none.
    otlp_endpoint: str = ""
    # Share of requests that the ingress samples, beside those that their callers sample. 0: no spans of RPCs.
    trace_ratio: float = Field(default=0.01, ge=0, le=1)


class Server(Settings):
    """One hop server."""

    # "unix:/path" (its directory must be private) or "host:port" (needs `tls`).
    listen: str
    tls: Tls | None = None
    # Only for tests and for a sidecar that does mTLS: TCP without certificates, callers untrusted.
    allow_plaintext: bool = False
    max_message_bytes: int = Field(default=64 * 1024 * 1024, ge=LEAST_MESSAGE_BYTES)
    # Calls served at once; more are refused with RESOURCE_EXHAUSTED at once.
    max_concurrent_calls: PositiveInt = 1024
    # With `tls`: the peer of a connection this old is asked to connect again, for it outlives its certificate. Calls that
    # began on it may go on for as long again. 0: connections have no age.
    max_connection_age_s: float = Field(default=3600.0, ge=0)
    # Deadline of a call that brings none.
    default_timeout_s: PositiveFloat = 10.0
    # A call with less time left than this is refused at once.
    min_budget_s: float = Field(default=0.0005, ge=0)
    # How long NOT_SERVING is shown before the server stops accepting.
    drain_notice_s: float = Field(default=0.2, ge=0)
    # How long calls in flight may take to finish after that.
    drain_s: PositiveFloat = 20.0


class ServiceSettings(Settings):
    """Settings that every service has."""

    server: Server
    telemetry: Telemetry = Telemetry()


class BreakerSettings(Settings, BreakerRules):
    """Circuit breaker of one method at one replica, validated."""


class LimiterSettings(Settings, LimiterRules):
    """Adaptive concurrency limit of one method at one replica, validated."""


class RetrySettings(Settings, RetryRules):
    """Retries of calls that failed as a whole, validated."""


class CoalesceSettings(Settings, CoalesceRules):
    """Natural batching at a client, validated."""


class ClientSettings(Settings, ClientRules):
    """One hop client, validated: how a service reaches another. Fields and defaults: `client/settings.py`."""

    tls: ClientTls | None = None
    breaker: BreakerSettings = BreakerSettings()
    limiter: LimiterSettings = LimiterSettings()
    retry: RetrySettings = RetrySettings()
    coalesce: CoalesceSettings = CoalesceSettings()


class CalleeSettings(Settings):
    """A callee that no request waits for: where it is. Its client is not tuned. Fields as in ClientSettings."""

    target: str
    tls: ClientTls | None = None
    server_name: str = ""
    resolve_every_s: PositiveFloat = 5.0

    def client(self, **rules: Any) -> ClientSettings:
        """The settings of its client; `rules`: what is not by default."""
        return ClientSettings(**{name: getattr(self, name) for name in type(self).model_fields}, **rules)


class ConfigError(Exception):
    """The settings are unusable; the text says where and why. Raised before anything binds."""


S = TypeVar("S", bound=Settings)
_PREFIX = "HEADRACE__"
_KEY_LINE = re.compile(r"\s*(?:- )?[\"']?([\w.-]+)[\"']?\s*:(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Document:
    """A settings file as it was read: its values, and the line of each key ("server.listen", "routes.0.name")."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """ "FILE, line N" of a key, or of the nearest key above it that the file has; "" if it has none of them."""
        while key not in self.lines:
            if not key:
                return ""
            key = key.rpartition(".")[0]
        return f"{self.path}, line {self.lines[key]}"

    def sets(self, key: str) -> bool:
        """Whether the file has this key itself, or a single value for a key above it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
            if any(line.startswith(f"{key}.") for line in self.lines):
                return False  # the file has other keys below that part
        return bool(key)


def read(path: Path) -> Document:
    """A settings file. Raises ConfigError that names file, line and key."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} can't be read: it is not UTF-8 ({error.reason})") from error
    lines: dict[str, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(path, {}, {})
        _note_lines(node, "", lines)
        values = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(path, text, error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}, line {line}: {error.reason}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}, line {node.start_mark.line + 1}: settings must be keys with values")
    return Document(path, values, lines)


def _note_lines(node: yaml.Node, key: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = f"{key}.{name.value}" if key else str(name.value)
            if lines.setdefault(inner, name.start_mark.line + 1) != name.start_mark.line + 1:
                problem = f"the key {inner!r} is there twice, first in line {lines[inner]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=name.start_mark)
            _note_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[f"{key}.{index}"] = value.start_mark.line + 1
            _note_lines(value, f"{key}.{index}", lines)


def _syntax(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    """YAML's error of several lines in one line, with the last key at or above that line."""
    mark = error.problem_mark or error.context_mark
    line = 0 if mark is None else mark.line
    keys = [found[1] for found in map(_KEY_LINE.match, text.splitlines()[: line + 1]) if found]
    near = f", near the key {keys[-1]!r}" if keys else ""
    told = " ".join(part for part in (error.context, error.problem) if part)
    return f"{path}, line {line + 1}{near}: {told}"


def load(kind: type[S], path: Path | None, environ: Mapping[str, str] | None = None) -> S:
    """Settings of class `kind` from a YAML file, overlaid by `HEADRACE__SECTION__KEY=value` variables; either suffices.

    A key with `_file` behind it names a file that holds the value (`redis_file: /run/secrets/redis`), so that a secret
    is in no document and no variable. Raises ConfigError with file, line and key
    (or the variable) of each wrong value, but never the text of such a file.
    """
    document = Document(Path(), {}, {}) if path is None else read(path)
    values = document.values
    variables: dict[str, str] = {}
    env = os.environ if environ is None else environ  # noqa: TID251 - the one place that reads it
    for name, text in env.items():
        if name.startswith(_PREFIX):
            keys = name.removeprefix(_PREFIX).lower().split("__")
            _overlay(values, keys, text, name)
            variables[".".join(keys)] = name
    return _validated(kind, values, lambda key, text: _placed(key, text, document, variables))


def checked(kind: type[S], values: dict[str, Any], above: str) -> S:
    """Settings of class `kind` from values that stand under the key `above` of others. Raises ConfigError with the keys."""
    return _validated(kind, values, lambda key, text: f"{'.'.join(filter(None, (above, key)))}: {text}")


def _validated(kind: type[S], values: dict[str, Any], placed: Callable[[str, str], str]) -> S:
    """`placed` makes the sentence of a key and what is wrong with it."""
    try:
        texts = dict(_read_value_files(kind, values))
    except _ValueFileError as error:
        raise ConfigError(placed(error.key, str(error))) from error
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        told = "; ".join(placed(*_told(e, texts)) for e in error.errors())
        # Pydantic's own error shows the values.
        raise ConfigError(told) from (None if texts else error)


def _told(error: ErrorDetails, texts: Mapping[str, str]) -> tuple[str, str]:
    """The key, and what is wrong with it without a text that came from a file."""
    key, told = ".".join(map(str, error["loc"])), error["msg"]
    for secret in filter(None, texts.values()):
        told = told.replace(secret, "(the file's text)")
    return (f"{key}_file" if key in texts else key), told


def _placed(key: str, text: str, document: Document, variables: Mapping[str, str]) -> str:
    named = [variable for name, variable in variables.items() if key == name or key.startswith(f"{name}.")]
    place = f"variable {named[0]}" if named else document.place(key)
    if not place and document.path != Path():
        place = str(document.path)
    return f"{place}, {key or '(top)'}: {text}".removeprefix(", ")


def _overlay(values: dict[str, Any], keys: list[str], text: str, variable: str) -> None:
    for key in keys[:-1]:
        below = values.setdefault(key, {})
        if not isinstance(below, dict):
            raise ConfigError(
                f"variable {variable}: {key!r} has a value already, so it can hold no other keys"
            )
        values = below
    try:
        values[keys[-1]] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"variable {variable}: {' '.join(str(error).split())}") from error


_SUFFIX = "_file"


class _ValueFileError(Exception):
    """The value of `key` ("idempotency.redis_file") can't be had. The text says why."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


def _read_value_files(
    kind: type[BaseModel], values: dict[str, Any], above: str = ""
) -> list[tuple[str, str]]:
    """Replaces each key `NAME_file` by `NAME` with the text of that file, without the line's end, if `kind` has a field NAME but
    none of the whole name. Returns the keys ("idempotency.redis") with their texts. Raises _ValueFileError.
    """
    read: list[tuple[str, str]] = []
    for key in list(values):
        name = key.removesuffix(_SUFFIX) if isinstance(key, str) else key
        if name != key and key not in kind.model_fields and name in kind.model_fields:
            if name in values:
                raise _ValueFileError(f"{above}{key}", f"{name} is set too; leave one of them out")
            values[name] = _text_of(f"{above}{key}", values.pop(key))
            read.append((f"{above}{name}", values[name]))
        elif key in kind.model_fields and isinstance(values[key], dict):
            for inner in _models(kind.model_fields[key].annotation):
                read += _read_value_files(inner, values[key], f"{above}{key}.")
    return read


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings class of a field that holds one, perhaps or None."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one


def _text_of(key: str, file: Any) -> str:
    if not isinstance(file, str):
        raise _ValueFileError(key, "must be the path of a file")
    try:
        return Path(file).read_text().rstrip("\r\n")
    except OSError as error:
        raise _ValueFileError(key, f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:
        # A UnicodeDecodeError would quote the bytes.
        raise _ValueFileError(key, f"{file} can't be read: it is not UTF-8, or its path is none") from error
