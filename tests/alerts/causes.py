"""What a cause of an alert is: something that is done to a running system, and undone as its runbook says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.alerts.alarmed_system import Alarmed

Provoke = Callable[[Alarmed], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Cause:
    """`alerts`: those that must come, each with some of its labels. `provoke`: the cause lasts within the context. `afterwards`:
    alerts that come once it is mended."""

    alerts: Mapping[str, Mapping[str, str]]
    provoke: Provoke
    afterwards: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@contextmanager
def moved(path: Path, name: str) -> Iterator[None]:
    """It has another name, and its own again afterwards."""
    away = path.rename(path.with_name(name))
    try:
        yield
    finally:
        away.rename(path)


@contextmanager
def file_instead(folder: Path) -> Iterator[None]:
    """A file stands where the folder should be."""
    with moved(folder, f"{folder.name}.away"):
        folder.touch()
        try:
            yield
        finally:
            folder.unlink()


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Afterwards the files have the content that they have now."""
    contents = {path: path.read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, content in contents.items():
            path.write_bytes(content)


class Causes(list[Cause]):
    """Those of one file, in the order in which they are provoked."""

    def add(
        self, afterwards: str = "", **alerts: Mapping[str, str]
    ) -> Callable[[Callable[[Alarmed], Iterator[None]]], Provoke]:
        """Of a generator that does it before its `yield` and undoes it after it. `alerts`: by name without "Headrace"."""

        def added(generator: Callable[[Alarmed], Iterator[None]]) -> Provoke:
            provoke = contextmanager(generator)
            named = {f"Headrace{name}": labels for name, labels in alerts.items()}
            self.append(Cause(named, provoke, {afterwards: {}} if afterwards else {}))
            return provoke

        return added
