"""The settings of each service in a deployment: as in a home, but over TCP with certificates, and at the mounted paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment.description import Description
from headrace.cli.installation import ports, services
from headrace.cli.installation.layout import Layout
from headrace.cli.installation.settings import Installation, overlaid, settings

# The Service that has the address of each door.
EACH_DOOR = "ingress-each"
_TLS = {"certificate": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
# Counts that the doors of one machine share; containers share no folder, but a Redis.
_ONE_MACHINE = ("quotas", "queries")
_LAYOUT = Layout(mounted.STATE, mounted.STATE, mounted.RUN)


def service_port(service: str) -> int:
    """The TCP port that a service is called at."""
    return mounted.DOOR_PORT if service == services.INGRESS else mounted.PORT


def metrics(description: Description) -> dict[str, str]:
    """NAME:PORT by service; DNS has the address of each process there."""
    found = {service: name_of(description, service) for service in services.start_order()}
    # The door's own name is that of an ordinary Service, or of a balancer.
    found[services.INGRESS] = name_of(description, EACH_DOOR)
    return {service: f"{name}:{mounted.METRICS_PORT}" for service, name in found.items()}


def callers(service: str) -> tuple[str, ...]:
    """Who calls a service."""
    return tuple(other for other in services.start_order() if service in services.callees(other))


def of(description: Description, service: str) -> dict[str, Any]:
    """Settings of a service in each of its containers."""
    made = _in_a_home(service)
    places = {**_secrets(), str(_LAYOUT.records): description.database}
    if description.artifacts is None:
        made = _without(made, str(_LAYOUT.artifacts))
    else:
        places[str(_LAYOUT.artifacts)] = description.artifacts
    made = _moved(made, places)
    made |= {callee: _client(description, callee) for callee in services.callees(service)}
    made["telemetry"] = {"metrics": f"0.0.0.0:{mounted.METRICS_PORT}"}
    made["server"] = _server(description, service)
    if service == services.INGRESS:
        return _door(description, made)
    if service == services.CONTROL:
        # The journals of other pods are not here.
        return {key: value for key, value in made.items() if key != "audit"} | _identities(description)
    # Whom alerts are told is said by the home's settings/slo.yaml alone.
    made.pop("alerts", None)
    if "cost" in made:
        made = overlaid(made, {"cost": {"services": metrics(description)}})
    # Not reachable from outside: `kubectl port-forward`.
    return overlaid(made, {"console": {"listen": "127.0.0.1:8490"}}) if "console" in made else made


def _in_a_home(service: str) -> dict[str, Any]:
    installation = Installation(_LAYOUT, "apart", ports.wanted(services.start_order()))
    made = settings(installation, service, slot=0, listen=mounted.RUN / "x", run_dir=mounted.RUN / "envoy")
    # The supervisor of a home writes the addresses of all processes; in a cluster DNS has them.
    found: dict[str, Any] = _without(made, str(_LAYOUT.targets))
    return found


def _without(value: Any, unwanted: str) -> Any:
    """Without the keys that name it."""
    if isinstance(value, dict):
        return {key: _without(inner, unwanted) for key, inner in value.items() if inner != unwanted}
    return value


def _server(description: Description, service: str) -> dict[str, Any]:
    stop = {"drain_notice_s": description.notice_s, "drain_s": description.drain_s}
    if service == services.INGRESS:
        return {"listen": f"unix:{mounted.RUN}/door/ingress.sock", **stop}
    names = [name_of(description, caller) for caller in callers(service)]
    names += description.operators if service == services.CONTROL else ()
    return {"listen": f"0.0.0.0:{service_port(service)}", "tls": {**_tls(), "peers": names}, **stop}


def _identities(description: Description) -> dict[str, Any]:
    """Whom control believes what: the door and monitoring's console bring operators' changes, monitoring judges rollouts."""
    names = {caller: name_of(description, caller) for caller in callers(services.CONTROL)}
    changing = [name for caller, name in names.items() if caller in (services.INGRESS, *services.ASIDE)]
    known = {
        name: caller
        for caller, name in names.items()
        if caller in services.ASIDE or "resources" in _in_a_home(caller)
    }
    return {"may_change": [*changing, *description.operators], "watchers": known}


def _client(description: Description, callee: str) -> dict[str, Any]:
    name = name_of(description, callee)
    found = {"target": f"dns:///{name}:{service_port(callee)}", "server_name": name, "tls": _tls()}
    # Who follows control looks its name up for each connection.
    return found if callee == services.CONTROL else {**found, "resolve_every_s": description.resolve_every_s}


def name_of(description: Description, service: str) -> str:
    """The DNS name of a service, which its certificate has too."""
    return f"{service}.{description.namespace}.svc"


def _tls() -> dict[str, str]:
    return {key: str(mounted.TLS / name) for key, name in _TLS.items()}


def _door(description: Description, made: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in made.items() if key not in _ONE_MACHINE}
    # Doors on several machines share the keys of calls and limits of tenants.
    own["idempotency"] = {"redis_file": str(mounted.SECRETS / "redis-url")}
    own["sharing"] = {"redis_file": str(mounted.SECRETS / "redis-url")}
    # It refuses requests before the kernel ends it for its memory.
    own["limits"] = {"max_heap_bytes": description.door_memory_mb * 1024 * 1024 * 3 // 4}
    until = description.encrypted_until
    return own | {
        **({} if until is None else {"encrypted_until": f"{until}"}),
        "http": {
            "plaintext": "127.0.0.1:8080",
            "tls": f"0.0.0.0:{mounted.DOOR_PORT}",
            "certificate": str(mounted.TLS / "tls.crt"),
            "key": str(mounted.TLS / "tls.key"),
        },
        "admin": f"127.0.0.1:{mounted.ADMIN_PORT}",
        "access_log": "/dev/stdout",
    }


def _secrets() -> dict[str, str]:
    """What a home has as a file is mounted as one of a folder of secrets."""
    secrets: dict[Path, str] = {
        _LAYOUT.events_salt: "events.salt",
        _LAYOUT.model_public_key: "models.pub",
        _LAYOUT.control_key: "control.key",
        _LAYOUT.control_public_key: "control.pub",
        _LAYOUT.console_secret: "console.key",
    }
    return {str(path): str(mounted.SECRETS / name) for path, name in secrets.items()}


def _moved(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, places) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_moved(inner, places) for inner in value]
    return places.get(value, value) if isinstance(value, str) else value
