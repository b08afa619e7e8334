"""Who asks a service from outside, with whatever certificate."""

import tempfile
from pathlib import Path
from typing import Any

import grpc

from tests.machines import manifests
from tests.machines.authority import Authority
from tests.machines.cluster import Cluster, Pod
from tests.machines.forwarding import Forwarded
from tests.machines.network import connect

_HEALTH = "/grpc.health.v1.Health/Check"


def asked(
    cluster: Cluster, pod: Pod, shown: Authority | None, named: str = "router", method: str = _HEALTH
) -> grpc.StatusCode:
    """What an empty call gets from a pod. `shown`: who signed the certificate that is shown; None: none. `named`: the service
    that it is of. `method`: by default the health check, which all may ask who have a certificate."""
    key = certificate = None
    if shown is not None:
        with tempfile.TemporaryDirectory() as folder:
            shown.issue(Path(folder), manifests.name_of(named))
            key, certificate = ((Path(folder) / name).read_bytes() for name in ("tls.key", "tls.crt"))
    credentials = grpc.ssl_channel_credentials(cluster.authority.pem, key, certificate)
    options = [("grpc.ssl_target_name_override", manifests.name_of(pod.service))]
    port = Forwarded(lambda: connect(cluster.outside, pod.address, manifests.PORT))
    try:
        with grpc.secure_channel(port.address, credentials, options) as channel:
            call: Any = channel.unary_unary(method)
            call(b"", timeout=10)
    except grpc.RpcError as error:
        return error.code()
    finally:
        port.close()
    return grpc.StatusCode.OK
