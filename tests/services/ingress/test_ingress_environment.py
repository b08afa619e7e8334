"""What the Python inside Envoy gets to know from the process that becomes Envoy."""

import subprocess
import sys

import pytest

SHOW = """
from pathlib import Path
from services.ingress.envoy.configuration import environment, libpython
print(environment(Path("settings.yaml"), {"LANG": "C"})["PYTHONOPTIMIZE"] if libpython() else "no libpython")
"""


@pytest.mark.parametrize(("options", "level"), [([], "0"), (["-O"], "1")])
def test_it_is_optimised_as_its_parent_is(options: list[str], level: str) -> None:
    shown = subprocess.run(
        [sys.executable, *options, "-c", SHOW], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    if shown == "no libpython":
        pytest.skip("this Python has no shared library, so nothing runs inside Envoy")
    assert shown == level


def test_the_process_that_becomes_envoy_imports_only_what_it_needs() -> None:
    # It is imported again inside Envoy, and callers wait for both after a crash.
    program = "import sys, services.ingress.envoy.launch; print(*{'numpy', 'grpc', 'headrace.pipeline'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
