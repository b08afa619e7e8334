"""The versions that are compared: the working tree, and a commit, unpacked beside it; each with a home of its own."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.pipelines.preparation import note_models
from load.systems import headrace as systems
from load.systems.processes import ROOT

# A line for each issue that landed: its tag and its commit.
LANDED = ROOT / "tests" / "generations" / "LANDED"
_FOLDER = ROOT / ".headrace" / "ab"
# Of a prepared home: data, models and their key, and the stamps by which `up` finds them up to date. Nothing of a run.
_PREPARED = ("data", "feast", "models", "models.key", "models.pub", "flights.json", "moderation.json")
_CLI = "from headrace.cli.main import app; app()"
_TIMEOUT_S = 300
# Beyond what any run here asks for.
_AMPLE = ("--rows-per-s", "10000000", "--rows-burst", "10000000", "--concurrency", "20000")


@dataclass(frozen=True, slots=True)
class Version:
    """A version's code, its interpreter, and a home that only it uses."""

    name: str
    root: Path
    python: str
    home: Path

    def command(self, *arguments: str) -> list[str]:
        """Runs Python with this version's code; hashes are those of each other run, so that sets have one order."""
        paths = f"PYTHONPATH={self.root}:{self.root / 'libs'}:{ROOT}"
        return ["/usr/bin/env", paths, "PYTHONHASHSEED=0", self.python, *arguments]

    @contextmanager
    def conversation(self, module: str) -> Iterator[Callable[[str], Any]]:
        """Starts a module for its home; what is returned sends a line and returns what is answered, as JSON."""
        command = self.command("-m", module, str(self.home))
        pipe = subprocess.PIPE
        log = self.home / "run" / f"{module}.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, cwd=self.root, stdin=pipe, stdout=pipe, stderr=errors, text=True
            ) as process,
        ):
            questions, answers = process.stdin, process.stdout
            assert questions is not None
            assert answers is not None

            def exchange(line: str) -> Any:
                with suppress(BrokenPipeError):  # it has ended, as the missing answer says
                    print(line, file=questions, flush=True)
                if not (answer := answers.readline()):
                    raise SystemExit(
                        f"{self.name}: {module} ended without an answer: {log.read_text()[-1000:]}"
                    )
                return json.loads(answer)

            try:
                yield exchange
            finally:
                with suppress(BrokenPipeError):
                    questions.close()

    def headrace(self, *arguments: str) -> str:
        """Runs this version's command for its home; returns what it prints. Raises SystemExit if it fails."""
        done = subprocess.run(
            self.command("-c", _CLI, *arguments, "--home", str(self.home)),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            raise SystemExit(
                f"{self.name}: headrace {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    @contextmanager
    def up(self, shape: systems.Shape) -> Iterator[None]:
        """Its system, with a demo tenant that nothing limits."""
        self.headrace("up", *(["--together"] if shape == "together" else []))
        try:
            self.headrace("tenants", "set", "demo", *_AMPLE, "--yes")
            yield
        finally:
            self.headrace("down")


def last_landed() -> str:
    """The newest commit that landed."""
    return LANDED.read_text().splitlines()[-1].split()[1]


def versions(prepared: Path, base: str, names: dict[str, bool]) -> list[Version]:
    """By name: whether it is the commit `base` (else the working tree). Homes are copied from a prepared one.

    Raises SystemExit if this clone does not have the commit.
    """
    if not (prepared / "flights.json").exists():
        systems.prepare(prepared)
    found = []
    for name, old in names.items():
        root, home = _unpacked(base) if old else ROOT, _FOLDER / "homes" / name
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for part in _PREPARED:
            copy = shutil.copytree if (prepared / part).is_dir() else shutil.copy2
            copy(prepared / part, home / part)
        note_models(home)
        found.append(Version(name, root, _interpreter(root), home))
    return found


def _unpacked(commit: str) -> Path:
    folder = _FOLDER / commit
    if not folder.exists():
        parts = ("libs", "services", "deploy", "requirements.lock", "pyproject.toml", "README.md", "LICENSE")
        done = subprocess.run(["git", "archive", commit, *parts], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"this clone has no {commit}: fetch it, or name another by --base\n{done.stderr.decode()}"
            )
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            tar.extractall(partial, filter="data")
        _compile(partial)
        partial.rename(folder)
    return folder


def _compile(root: Path) -> None:
    """What the installation compiles."""
    paths = f"PYTHONPATH={root}:{root / 'libs'}"
    command = ["/usr/bin/env", paths, sys.executable, "-m", "services.ingress.lane.library"]
    subprocess.run(command, cwd=root, check=True)


def _interpreter(root: Path) -> str:
    """This one if the version wants the same packages; else that of an environment of its own."""
    lock, python = root / "requirements.lock", root / ".venv" / "bin" / "python"
    if lock.read_bytes() == (ROOT / "requirements.lock").read_bytes():
        return sys.executable
    if not python.exists():
        install = ("pip", "install", "-q", "--python", str(python), "--no-deps", "--no-build-isolation")
        for command in (
            ("venv", "-q", "--python", sys.executable, str(python.parents[1])),
            ("pip", "sync", "-q", "--python", str(python), "--require-hashes", str(lock)),
            (*install, "-e", str(root)),  # names the services that there are
        ):
            subprocess.run([str(Path(sys.executable).parent / "uv"), *command], check=True)
    return str(python)
