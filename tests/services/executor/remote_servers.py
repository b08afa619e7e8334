"""Starts servers of the Open Inference Protocol as processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.children import ends_with_tests

ROOT = Path(__file__).parents[3]


@dataclass
class RemoteProcess:
    """A running server of one model."""

    process: subprocess.Popen[str]
    port: int

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def oip_server(model: str, path: Path, port: int = 0, factor: float = 1.0) -> Iterator[RemoteProcess]:
    """Our small server, ready; killed at the end."""
    command = [sys.executable, "-m", "tests.services.executor.oip_server"]
    arguments = [str(port), model, str(path), str(factor)]
    process = subprocess.Popen(
        ends_with_tests(*command, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": "libs:."},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().isdigit(), "the server did not start"
        yield RemoteProcess(process, int(line))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
