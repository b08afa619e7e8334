"""README's "A first call" runs letter for letter; only the address and the path of the key are this system's."""

import re
from pathlib import Path

import pytest

from tests.pipeline.test_other_peoples_clients import run
from tests.system import CLIENTS_PYTHON, ROOT, System

SECTION = re.search(
    r"^## A first call\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
assert SECTION is not None
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", SECTION[1], re.MULTILINE | re.DOTALL)
# What each block is about, in their order.
NAMES = ["curl", "buf curl", "headrace.client", "perf_analyzer -m flights -i http", "tritonclient"]


@pytest.mark.parametrize(("name", "block"), [*zip(NAMES, BLOCKS, strict=True)], ids=NAMES)
def test_a_block_runs(
    system: System, name: str, block: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, text = block
    assert name in text
    monkeypatch.chdir(ROOT)
    key = tmp_path / "demo.key"
    key.write_text(f"{system.key}\n")
    text = text.replace(".headrace/demo.key", str(key)).replace("127.0.0.1:8080", system.endpoints["grpc"])
    assert text.count(str(key)) + text.count(system.endpoints["grpc"]) >= 2
    if kind == "python":
        own = CLIENTS_PYTHON if "tritonclient" in text else ROOT / ".venv" / "bin" / "python"
        output = run(str(own), "-c", text)
    else:
        output = run("bash", "-euc", text)
    commands = max(1, text.count("perf_analyzer "))
    assert len(re.findall(r"Throughput: [1-9]|probability", output)) == commands, output
