"""The HTTP endpoint that Prometheus scrapes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server

from headrace.hop import config


class MetricsEndpoint:
    """Serves a registry at `host:port` from a thread of its own; port 0 takes a free one."""

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
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
        self.address = f"{host or '127.0.0.1'}:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving; blocks until the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
