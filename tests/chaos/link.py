"""A cable between two services that can be slow, lossy or cut: two TAP devices, and a thread that carries frames between them.

One end is a device of this machine, the other of a network namespace, where TCP connections are passed on to the callee's socket.
What is lost, held up or never acknowledged is so for the kernel's TCP, as with netem, which many kernels lack.
"""

import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machines.forwarding import Forwarded
from tests.machines.network import within

_NEAR, _FAR, _PORT = "10.79.0.1", "10.79.0.2", 7000
_FRAME = 1 << 16
_LOOK_EVERY_S = 0.1
# From linux/if_tun.h.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


@dataclass(frozen=True, slots=True)
class Quality:
    """Of each direction. `delay_s` ± `jitter_s`; `loss`: share of frames that are lost; `cut`: nothing arrives."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    cut: bool = False


class Link:
    """To the newest socket in `callee`. `address`: host:port on the other side. Needs root; one at a time on a machine."""

    def __init__(self, callee: Path) -> None:
        self.address = f"{_FAR}:{_PORT}"
        self._callee = callee
        self._quality = Quality()
        self._drawn = random.Random(1)
        self._end = threading.Event()
        self._connections: list[socket.socket] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the context. Skips by name without the right to make a namespace."""
        namespace = device = f"hc{os.getpid()}"
        with ExitStack() as stack:
            try:
                near = _tap(device)
                stack.callback(os.close, near)
                _ip("netns", "add", namespace)
            except (OSError, AssertionError) as error:
                pytest.skip(f"a cable needs the right to make network devices: {error}")
            stack.callback(_ip, "netns", "del", namespace)
            far = within(namespace, lambda: _tap("eth0"))
            stack.callback(os.close, far)
            for words, address in (((), _NEAR), (("-n", namespace), _FAR)):
                name = "eth0" if words else device
                _ip(*words, "addr", "add", f"{address}/30", "dev", name)
                _ip(*words, "link", "set", name, "up")
            carrier = threading.Thread(target=self._carry, args=(near, far))
            carrier.start()
            stack.callback(carrier.join)
            stack.callback(self._end.set)
            listener = within(namespace, lambda: socket.create_server((_FAR, _PORT)))
            # The last words of a connection may be lost with the cable: nobody else would end it.
            stack.callback(self._hang_up)
            stack.callback(Forwarded(self._reach, listener).close)
            yield

    def become(self, quality: Quality) -> None:
        """How it is from now on."""
        self._quality = quality

    def _reach(self) -> socket.socket:
        sockets = list(self._callee.glob("*.sock"))
        if not sockets:
            raise ConnectionRefusedError("no process is listed")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(max(sockets, key=lambda path: path.stat().st_mtime)))
        except OSError:
            connection.close()
            raise
        self._connections.append(connection)
        return connection

    def _hang_up(self) -> None:
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _carry(self, near: int, far: int) -> None:
        """Frames from each end to the other, in order, each after its delay."""
        others = {near: far, far: near}
        waiting: dict[int, deque[tuple[float, bytes]]] = {near: deque(), far: deque()}
        while not self._end.is_set():
            now = time.monotonic()
            dues = [frames[0][0] - now for frames in waiting.values() if frames]
            readable, _, _ = select.select(list(others), [], [], max(0.0, min([_LOOK_EVERY_S, *dues])))
            for end in readable:
                frame = os.read(end, _FRAME)
                frames = waiting[others[end]]
                if not self._lost():
                    frames.append(
                        (max(time.monotonic() + self._waits(), frames[-1][0] if frames else 0.0), frame)
                    )
            now = time.monotonic()
            for end, frames in waiting.items():
                while frames and frames[0][0] <= now:
                    # A device whose queue is full loses the frame, as one of metal does.
                    with suppress(OSError):
                        os.write(end, frames.popleft()[1])

    def _lost(self) -> bool:
        return self._quality.cut or self._drawn.random() < self._quality.loss

    def _waits(self) -> float:
        quality = self._quality
        return max(quality.delay_s + self._drawn.uniform(-quality.jitter_s, quality.jitter_s), 0.0)


def _tap(name: str) -> int:
    """A new TAP device of the thread's namespace, which is gone with the file."""
    file = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError:
        os.close(file)
        raise
    return file


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
