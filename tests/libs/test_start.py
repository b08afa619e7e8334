"""The start of a process: a SIGTERM is obeyed from the first import on, and variables alone are settings enough."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.ingress.envoy.configuration import SETTINGS_VARIABLE
from tests.children import ends_with_tests
from tests.system import poll

ROOT = Path(__file__).parents[2]
# In pydantic's place, which every service imports early: says that it is being imported, and goes on for ever.
SLOW = """
import pathlib
import time

pathlib.Path({mark!r}).touch()
while True:
    time.sleep(1)
"""


@contextmanager
def ended_by_a_stop(folder: Path, *module: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A module that runs as a process; imports look into `folder` first. After the body a SIGTERM ends it with 0."""
    path = os.pathsep.join(map(str, (folder, ROOT, ROOT / "libs")))
    command = ends_with_tests(sys.executable, "-m", *module)
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **settings, "PYTHONPATH": path})
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("service", ["preprocessing", "ingress"])
def test_a_stop_while_modules_are_imported_is_obeyed(tmp_path: Path, service: str) -> None:
    mark = tmp_path / "importing"
    (tmp_path / "pydantic.py").write_text(SLOW.format(mark=str(mark)))
    # Without a handler the exit code would be -15, and there would be no end at all as process 1.
    with ended_by_a_stop(tmp_path, f"services.{service}", "--config", "none.yaml"):
        poll("the slow import", mark.exists, 60)


# What a process says of its collector when it ends with a wrong setting, long before it serves.
ENDS = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_threshold()))
from headrace import start
sys.argv = ["service", "--config", "none.yaml"]
start.service("services.preprocessing.wiring:SERVICE")
"""
IN_ENVOY = """
import asyncio, gc
from contextlib import AsyncExitStack
from services.ingress import asgi
try:
    asyncio.run(asgi._open(AsyncExitStack()))
except asgi.config.ConfigError:
    print(gc.get_threshold())
"""


@pytest.mark.parametrize("program", [ENDS, IN_ENVOY])
def test_imports_of_a_start_are_not_held_up_by_the_collector(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, SETTINGS_VARIABLE: "none.yaml"},
    )
    assert done.stdout == "(20000, 20, 20)\n", done.stderr


def test_a_service_runs_by_variables_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "HEADRACE__SERVER__LISTEN": f"unix:{tmp_path}/service.sock",
        "HEADRACE__SERVER__DRAIN_NOTICE_S": "0",
        "HEADRACE__TELEMETRY__METRICS": metrics,
    }
    with ended_by_a_stop(tmp_path, "services.preprocessing", **settings) as process:
        poll("readiness", lambda: process.poll() is not None or probe(metrics, "/ready"), 60)
        assert probe(metrics, "/live")


def probe(address: str, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
