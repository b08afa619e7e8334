"""What a cause of an alert is: something that is done to a running system, and undone as its runbook says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.alerts.alarmed_system import Alarmed

Provoke = Callable[[Alarmed], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Cause:
    """`alerts`: those that must come, each with some of its labels. `provoke`: the cause lasts within the context. `what`,
    `mended`: in words, for the record. `afterwards`: alerts that come once it is mended."""

    alerts: Mapping[str, Mapping[str, str]]
    what: str
    mended: str
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
        self,
        alerts: Mapping[str, Mapping[str, str]],
        what: str,
        mended: str,
        afterwards: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> Callable[[Callable[[Alarmed], Iterator[None]]], Provoke]:
        """Of a generator that does it before its `yield` and undoes it after it."""

        def added(generator: Callable[[Alarmed], Iterator[None]]) -> Provoke:
            provoke = contextmanager(generator)
            self.append(Cause(alerts, what, mended, provoke, afterwards))
            return provoke

        return added
