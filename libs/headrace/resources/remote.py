"""The processes of control over gRPC."""

from __future__ import annotations

import asyncio
import threading

import grpc

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.hop.client.settings import ClientRules
from headrace.hop.resilience import resolve
from headrace.hop.transport.channels import Security, blocking_channel
from headrace.hop.transport.tls import Pem, WatchedTls

_PATH = "/headrace.api.control.v1.ResourcesService/Watch"
_MAX_BYTES = 1 << 26


class RemoteControl:
    """Of the settings, `target`, `tls` and `server_name` count. Raises ValueError: the target can't be read; tls.TlsError: the
    certificates can't be used."""

    def __init__(self, settings: ClientRules) -> None:
        self._target = resolve.parse(settings.target)
        self._tls = WatchedTls(settings.tls, "client") if settings.tls else None
        self._security = Security(self._tls, None, settings.server_name or self._target.host)
        self._index = 0
        self._lock = threading.Lock()
        # The channel in use, its address, and the certificate that it shows.
        self._channel: tuple[grpc.Channel, str, Pem | None] | None = None
        self._closed = False

    def watch(self, request: WatchRequest, timeout_s: float) -> WatchResponse:
        """Blocks. Raises OSError."""
        try:
            call = self._current().unary_unary(
                _PATH,
                request_serializer=WatchRequest.SerializeToString,
                response_deserializer=WatchResponse.FromString,
            )
            found: WatchResponse = call(request, timeout=timeout_s)
            return found
        except grpc.RpcError as error:
            raise OSError(f"{error.code().name}: {error.details()}") from None
        except ValueError as error:  # the channel was closed meanwhile
            raise OSError(str(error)) from None

    def turn(self) -> None:
        """The next question goes to the next process of control, if there are several."""
        self._index += 1

    def close(self) -> None:
        """Ends a question in progress."""
        with self._lock:
            self._closed = True
            self._drop()

    def _current(self) -> grpc.Channel:
        addresses = self._target.addresses or self._looked_up()
        if not addresses:
            raise OSError("no process of control is there")
        address = addresses[self._index % len(addresses)]
        pem = self._tls.look() if self._tls else None
        with self._lock:
            if self._closed:
                raise OSError("it is closed")
            if self._channel is None or self._channel[1:] != (address, pem):
                self._drop()
                self._channel = blocking_channel(address, self._security, _MAX_BYTES), address, pem
            return self._channel[0]

    def _looked_up(self) -> tuple[str, ...]:
        # Blocking is fine here: on a thread of its own.
        return asyncio.run(resolve.lookup(self._target))

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel[0].close()
            self._channel = None
