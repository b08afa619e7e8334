"""Runs the pipelines' own preparation scripts and reports their progress."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from headrace.cli.installation.layout import Layout

Report = Callable[[str, int, int], None]
_LINES = 15


class PrepareError(Exception):
    """The preparation failed; the text holds its last lines."""


def prepare(layout: Layout, report: Report) -> None:
    """Runs each `deploy/pipelines/NAME/prepare.py`, which does only what is due. `report`: (step, done, total)."""
    layout.make_home()
    layout.logs.mkdir(parents=True, exist_ok=True)
    with layout.log("prepare").open("wb") as log:
        for script in sorted(layout.pipelines.glob("*/prepare.py")):
            _run(layout, script, report, log)


def _run(layout: Layout, script: Path, report: Report, log: BinaryIO) -> None:
    # As a module of the checkout, so that it finds its neighbours whatever the current folder is.
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and script
        _command(layout, script), stdout=subprocess.PIPE, stderr=log, cwd=layout.root
    )
    assert child.stdout is not None
    last: deque[str] = deque(maxlen=_LINES)
    with child, child.stdout as lines:
        for line in lines:
            if not _report(line, report):
                last.append(line.decode(errors="replace").rstrip())
                log.write(line)
                log.flush()
    if child.returncode != 0:
        last.extend(layout.log("prepare").read_text(errors="replace").splitlines()[-_LINES:])
        said = "\n".join(f"  {line}" for line in last)
        name = script.parent.name
        raise PrepareError(
            f"preparing {name} failed:\n{said}\nAll of it: headrace logs prepare --home {layout.home}"
        )


def _command(layout: Layout, script: Path) -> list[str]:
    module = ".".join(script.relative_to(layout.root).with_suffix("").parts)
    return [sys.executable, "-m", module, "--home", str(layout.home)]


def _report(line: bytes, report: Report) -> bool:
    """Whether the line was one of progress."""
    try:
        told = json.loads(line)
        report(str(told["step"]), int(told["done"]), int(told["total"]))
    except (ValueError, KeyError, TypeError):
        return False
    return True
