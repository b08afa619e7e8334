"""What the Python inside Envoy gets to know from the process that becomes Envoy."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.ingress.config import Http
from services.ingress.envoy import configuration, launch
from tests.services.ingress.ingress_door import prepare

SHOW = """
from pathlib import Path
from services.ingress.envoy.configuration import environment
print(environment(Path("settings.yaml"), {"LANG": "C"})["PYTHONOPTIMIZE"])
"""


@pytest.mark.parametrize(("options", "level"), [([], "0"), (["-O"], "1")])
def test_it_is_optimised_as_its_parent_is(options: list[str], level: str) -> None:
    shown = subprocess.run(
        [sys.executable, *options, "-c", SHOW], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    assert shown == level


def test_a_python_that_envoy_cannot_load_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare(tmp_path, "unix:/none")
    monkeypatch.setattr(configuration, "libpython", lambda: None)
    monkeypatch.setattr(sys, "argv", ["ingress", "--config", str(folder.path / "ingress.yaml")])
    with pytest.raises(SystemExit) as ended:
        launch.main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "ingress: this Python has no shared library (libpython) for Envoy to load; use one"
    )


def test_a_ca_of_clients_without_tls_is_refused() -> None:
    with pytest.raises(ValueError, match="client_ca"):
        Http(client_ca=Path("ca.pem"))


def test_the_process_that_becomes_envoy_imports_only_what_it_needs() -> None:
    # It is imported again inside Envoy, and callers wait for both after a crash.
    program = "import sys, services.ingress.envoy.launch; print(*{'numpy', 'grpc', 'headrace.pipeline'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
