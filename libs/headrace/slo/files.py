"""Writes the generated files, if Prometheus's and Alertmanager's own checkers agree; else the old ones stay."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from headrace.slo.generate import ALERT_RULES, ALERTMANAGER, OBJECTIVE_RULES
from headrace.state import atomic

_CHECKS = (
    ("promtool", ("check", "rules", OBJECTIVE_RULES, ALERT_RULES)),
    ("amtool", ("check-config", ALERTMANAGER)),
)
_CHECK_S = 60


class RuleFilesError(Exception):
    """A checker refused a file; the text is what it said."""


def check(files: Mapping[str, str]) -> list[str]:
    """Runs the checkers of Prometheus and Alertmanager. Returns those that are not installed. Raises RuleFilesError."""
    missing = []
    with tempfile.TemporaryDirectory() as made:
        _put(Path(made), files)
        for program, arguments in _CHECKS:
            found = shutil.which(program)
            if found is None:
                missing.append(program)
                continue
            told = subprocess.run(  # noqa: S603 - a program of the machine, with our own arguments
                [found, *arguments], cwd=made, capture_output=True, text=True, timeout=_CHECK_S, check=False
            )
            if told.returncode:
                raise RuleFilesError(f"{program}: {(told.stdout + told.stderr).strip()}")
    return missing


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Checks the files, then replaces those that differ, which it returns. Raises RuleFilesError: nothing was changed."""
    check(files)
    changed = differing(folder, files)
    _put(folder, {name: files[name] for name in changed})
    return changed


def differing(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Which of the files in the folder are missing or are not as they would be written now."""
    return [name for name, text in files.items() if _read(folder / name) != text]


def _put(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A webhook's URL may hold a token.
        atomic.write(path, text.encode(), mode=0o600)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
