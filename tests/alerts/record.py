"""What a run saw, as a table: which alert came for which cause, what was typed, what ended it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.alerts.walk import Typed

_HEAD = "| alert | cause | told after s | typed, with exit codes | mended by | its end told |\n|---|---|--:|---|---|---|\n"


@dataclass
class Seen:
    """One alert. `told_s`: from the begin of its cause to the webhook; `ended`: its end was told, too."""

    alert: str
    cause: str
    mended: str
    watch: str
    told_s: float
    typed: Sequence[Typed] = ()
    ended: bool = False


@dataclass
class Record:
    """All of them, in the order in which they came. `path`: where they are written; None: nowhere."""

    path: Path | None = None
    seen: list[Seen] = field(default_factory=list)

    def write(self) -> None:
        if self.path is not None:
            self.path.write_text(_HEAD + "".join(map(_row, self.seen)))


def _row(seen: Seen) -> str:
    typed = ", ".join(f"`{t.command}` {t.code}" for t in seen.typed)
    ended = "yes" if seen.ended else ""
    return f"| `{seen.alert}` ({seen.watch}) | {seen.cause} | {seen.told_s:.0f} | {typed} | {seen.mended} | {ended} |\n"
