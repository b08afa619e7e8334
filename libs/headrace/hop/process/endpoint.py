"""The HTTP endpoint of a process: metrics, and probes for those that can show no client certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

from headrace.hop import config

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Says why a probe fails; "" if it does not. Called in a thread of the endpoint.
Probe = Callable[[], str]
# Answers a query string with JSON. Called in a thread of the endpoint.
Page = Callable[[str], bytes]


class MetricsEndpoint:
    """Serves a registry to Prometheus at `host:port` in its own thread, `probes` by path, and `pages`, to which
    more may be added; port 0 takes a free one."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        probes: Mapping[str, Probe] | None = None,
        pages: Mapping[str, Page] = MappingProxyType({}),
    ) -> None:
        """Raises config.ConfigError if the address is malformed or taken."""
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise config.ConfigError(f"telemetry.metrics: {address!r} is not host:port")
        try:
            self._server, self._thread = start_http_server(
                int(port), host.strip("[]") or "127.0.0.1", registry
            )
        except (OSError, OverflowError) as error:
            raise config.ConfigError(f"telemetry.metrics: cannot listen on {address}: {error}") from error
        self._server.set_app(_answering(probes or {}, pages, self._server.get_app()))
        self.address = f"{host or '127.0.0.1'}:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving; blocks until the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answering(
    probes: Mapping[str, Probe], pages: Mapping[str, Page], metrics: WSGIApplication | None
) -> WSGIApplication:
    assert metrics is not None, "the server was started with it"

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if (page := pages.get(environ["PATH_INFO"])) is not None:
            body = page(environ["QUERY_STRING"])
            start("200 OK", [("content-type", "application/json")])
            return [body]
        probe = probes.get(environ["PATH_INFO"])
        if probe is None:
            return metrics(environ, start)
        why = probe()
        start("503 Service Unavailable" if why else "200 OK", [("content-type", "text/plain; charset=utf-8")])
        return [f"{why or 'ok'}\n".encode()]

    return answer
