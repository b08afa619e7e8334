"""A real server of Redis' protocol that a test can kill and start again with the same data."""

import socket
from pathlib import Path

from tests.redis_server import RedisServer


class Valkey(RedisServer):
    """Listens on a socket file, so that no port can be taken by somebody else. `url`: for redis-py."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "valkey.sock")
        self.url = f"unix://{self._path}"
        super().__init__(folder, "--unixsocket", self._path, "--appendfsync", "always", port=0)

    def connection(self, timeout_s: float) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout_s)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        return made
