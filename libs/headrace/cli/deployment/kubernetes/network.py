"""Who may talk to whom. Nobody, but for the calls that the services' settings name."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes.manifest import Object, labels, manifest, part

# Not ours, so their pods have not the label of our parts.
_STORES = {"postgres": 5432, "redis": 6379}
_DNS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def default_deny() -> Object:
    """Holds each pod of headrace, also one that no other policy selects."""
    spec = {"podSelector": {"matchLabels": part()}, "policyTypes": ["Ingress", "Egress"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny", "labels": part()},
        "spec": spec,
    }


def policy(
    description: Description,
    name: str,
    port: int,
    *,
    callers: Sequence[str],
    peers: dict[str, int],
    reads: Sequence[str] = (),
    readers: Sequence[str] = (),
) -> Object:
    """The policy of one service. `callers`: none is anybody (the door); `peers`: port by the service or store that it calls;
    `reads`: services whose metrics it reads; `readers`: services that read its metrics."""
    called: Object = {"ports": [{"port": port}]}
    if callers:
        called["from"] = [_pods(caller) for caller in callers]
    # Probes come from the node, which policies do not hold.
    scraped = {
        "ports": [{"port": mounted.METRICS_PORT}],
        "from": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": description.scraped_from}}},
            *(_pods(reader) for reader in readers),
        ],
    }
    calls: list[Object] = [{"ports": [{"port": at}], "to": [_pods(peer)]} for peer, at in peers.items()]
    if reads:
        calls.append({"ports": [{"port": mounted.METRICS_PORT}], "to": [_pods(each) for each in reads]})
    spec = {
        "podSelector": {"matchLabels": labels(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [called, scraped],
        # Names are only looked up by who calls somebody.
        "egress": [*calls, {"ports": _DNS}] if calls else [],
    }
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


def stores(settings: Object) -> dict[str, int]:
    """The stores that a service's settings name. Feast says in a file of its own that it is on Redis."""
    named = str(settings)
    found = {"postgres": "postgresql://" in named, "redis": "redis" in named or "'repo'" in named}
    return {store: port for store, port in _STORES.items() if found[store]}


def _pods(name: str) -> Object:
    wanted = {"app.kubernetes.io/name": name} if name in _STORES else labels(name)
    return {"podSelector": {"matchLabels": wanted}}
