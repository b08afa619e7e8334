"""Every command of `python -m load` can be run, and is explained."""

import argparse

from load.scenarios import commands as scenarios
from load.systems.processes import ROOT


def test_each_command_is_explained() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    scenarios.add(commands)
    help_text = (ROOT / "load" / "__main__.py").read_text()
    assert [name for name in commands.choices if name not in help_text] == []
    assert len(commands.choices) > 8
