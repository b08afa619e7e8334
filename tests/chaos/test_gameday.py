"""`headrace gameday` on a running home that is watched: the report, and a command that is killed in between."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.alerts.alarmed_system import PLACE, Alarmed
from tests.chaos.test_chaos import pytestmark  # noqa: F401 - of these tests too
from tests.libs.slo.alert_world import until
from tests.system import HEADRACE, HOME, ROOT

_LIMIT_S = 600


def _command(*arguments: str) -> list[str]:
    return [str(HEADRACE), "gameday", *arguments, "--home", str(HOME)]


@pytest.mark.parametrize("fault", ["certificate", "killed", "frozen"])
def test_a_fault_is_played_reported_and_undone(alarmed: Alarmed, fault: str) -> None:
    before = _content()
    until("it answers", lambda: not alarmed.asks("flights", alarmed.system.rows[0], 10))
    command = _command(fault, "--yes", "--json")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout)
    print(done.stderr, json.dumps(report["played"][0]["figures"]))
    assert report["as_expected"]
    assert report["played"][0]["figures"]["detected_s"] > 0
    assert _content() == before
    assert list((PLACE.run / "gameday").glob("report-*.md"))
    alarmed.ready("postprocessing")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_fault(alarmed: Alarmed, number: signal.Signals) -> None:
    before = _content()
    with _begun("certificate") as process:
        until("the fault is there", lambda: _content() != before)
        process.send_signal(number)
        process.wait(60)
    until("it is undone", lambda: _content() == before)
    done = subprocess.run(
        _command("--undo"), cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=True
    )
    assert "nothing is to be undone" in done.stdout


@contextmanager
def _begun(fault: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(_command(fault, "--yes"), cwd=ROOT) as process:
        yield process


def _content() -> list[bytes]:
    return [path.read_bytes() for path in (PLACE.tls / "server.pem", PLACE.tls / "server.key")]
