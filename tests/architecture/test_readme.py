"""What the README, and the executor's, tell a newcomer to write down is accepted as it stands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from headrace.cli.main import app
from headrace.pipeline import parse
from tests.services.executor.executor_caller import batch, calling, ys
from tests.services.executor.executor_models import doubling

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> Iterator[str]:
    fenced = re.findall(r"^( *)```(\w*)\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    for indent, block in ((i, b) for i, k, b in fenced if k == kind):
        yield "".join(line.removeprefix(indent) for line in block.splitlines(keepends=True))


def commands() -> list[list[str]]:
    lines = [line.split("#")[0].split() for block in blocks("") for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == [".venv/bin/headrace"]]


def test_its_pipeline_is_one() -> None:
    [text] = [block for block in blocks("yaml") if "stages:" in block]
    assert [o.name for o in parse(text, "README.md").outputs] == ["score"]


def test_its_other_yaml_and_its_python_can_be_read() -> None:
    assert all(yaml.safe_load(block) for block in blocks("yaml"))
    assert [ast.parse(block) for block in blocks("python")]


def test_its_commands_exist() -> None:
    assert commands()
    for words in commands():
        command = get_command(app)
        for word in words:
            found = getattr(command, "commands", {}).get(word)
            if found is None:
                break
            command = found
        assert not getattr(command, "commands", {}), f"headrace has no {' '.join(words)}"
        known = {name for parameter in command.params for name in parameter.opts}
        assert {w for w in words if w.startswith("--")} <= known, words


async def test_a_model_of_ones_own_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "services/executor/README.md").read_text(), re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert len(lines) == 5
    (tmp_path / "mine.onnx").write_bytes(doubling())
    monkeypatch.chdir(tmp_path)
    exec(found[1], {})  # its own words
    async with calling(tmp_path / "models") as caller:
        assert ys(await caller(batch(1.0, 2.0), "mine")) == [2.0, 4.0]
