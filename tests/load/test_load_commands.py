"""Every command of `python -m load` can be run: its module is there and has what is called."""

import argparse
import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from load.micro import commands as micro
from load.scenarios import commands as scenarios
from load.systems.processes import ROOT


def parsers() -> dict[str, argparse.ArgumentParser]:
    commands = argparse.ArgumentParser().add_subparsers()
    scenarios.add(commands)
    micro.add(commands)
    return dict(commands.choices)


def test_each_command_is_explained() -> None:
    help_text = (ROOT / "load" / "__main__.py").read_text()
    assert [name for name in parsers() if name not in help_text] == []


@pytest.mark.parametrize("name", sorted(parsers().keys() - {"scaling"}))  # that one has commands of its own
def test_each_command_has_something_to_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = parsers()[name].get_default("run")
    module, function = run.__module__, run.__name__
    if module == micro.__name__:
        imported: list[str] = []

        def recorded(wanted: str) -> argparse.Namespace:
            imported.append(wanted)  # not imported: pandas, Feast and ONNX Runtime take seconds
            return argparse.Namespace(run=id)

        monkeypatch.setattr(micro, "import_module", recorded)
        run(argparse.Namespace())
        [module], function = imported, "run"
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
