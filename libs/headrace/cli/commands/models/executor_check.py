"""Before a model is signed and added, the executor's own code loads it."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout
from headrace.cli.installation.settings import overlaid
from headrace.repository import RepositoryError, publish
from headrace.repository import bounded_process as bounded

_CHECK = "services.executor.check"
# The executor limits the time of the check itself; this is for its process to start and end.
_STARTING_S = 60.0
_DEFAULT_S = 120.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the check; None: as in the executor's settings."""

    seconds: float | None = None
    memory_mib: int | None = None


def check(layout: Layout, about: dict[str, Any], bounds: Bounds) -> str:
    """Has the executor's code load a version, in a process with limited time and memory. `about`: as for `publish`.

    Returns why it was not checked, or an empty text. Raises RepositoryError if the executor can't use it.
    """
    name, version = about["name"], about["version"]
    if (
        importlib.util.find_spec("services.executor") is None
        or importlib.util.find_spec("onnxruntime") is None
    ):
        return "the executor is not installed here"
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-add-") as folder:
            publish(Path(folder) / "models", **about)
            config = _config(layout, Path(folder) / "models", bounds)
            file = Path(folder) / "executor.yaml"
            file.write_text(yaml.safe_dump(config))
            seconds = float(config.get("check", {}).get("seconds", _DEFAULT_S))
            command = ["-m", _CHECK, "--config", str(file), f"{name}:{version}"]
            ended = bounded.run(command, seconds=seconds + _STARTING_S)
    except OSError as error:
        raise RepositoryError(
            name,
            version,
            f"can't be checked ({error.strerror or error})",
            "mend disk or memory, or: --unchecked",
        ) from error
    return _verdict(name, version, ended)


def _verdict(name: str, version: str, ended: bounded.Ended) -> str:
    try:
        verdict = json.loads(ended.output)
    except ValueError:
        last = (ended.error.strip().splitlines() or ["it said nothing"])[-1]
        problem = f"the check did not come to an end ({last})"
        raise RepositoryError(name, version, problem, "mend that, or: --unchecked") from None
    if verdict["problem"]:
        remedy = str(verdict["remedy"])
        for setting, option in (("check.seconds", "--seconds"), ("check.memory_mib", "--memory-mib")):
            remedy = remedy.replace(setting, option)
        raise RepositoryError(name, version, f"the executor can't use it: {verdict['problem']}", remedy)
    return "" if verdict["done"] else "what runs it can't be tried from here"


def _config(layout: Layout, models: Path, bounds: Bounds) -> dict[str, Any]:
    """The executor's settings in this home, changed for the check."""
    path = layout.override("executor")
    try:
        own = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        own = {}
    except (OSError, yaml.YAMLError) as error:
        fail(f"{path} can't be read ({' '.join(str(error).split())})")
    given = {"seconds": bounds.seconds, "memory_mib": bounds.memory_mib}
    forced = {
        "server": {"listen": "local"},
        "models": str(models),
        "state": str(layout.executor_state),
        "trust": None,
        "access_log": None,
        "check": {k: v for k, v in given.items() if v is not None},
    }
    return overlaid(own if isinstance(own, dict) else {}, forced)
