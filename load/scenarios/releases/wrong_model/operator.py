"""Who is on call: knows what the alert says, the runbook that it names, and the console. Nothing else."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load.systems.alert_servers import Told
from load.systems.processes import ROOT

_TIMEOUT_S = 10.0
_BACK = re.compile(r"roll back", re.IGNORECASE)
# The console looks at outcomes every ten seconds; so a person would look again.
_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Cause:
    """What the console says: `changes` in its words, of release `number`; `why` it is not safe; `back_to`: the release before."""

    number: int
    changes: str
    why: str
    back_to: int


class Operator:
    """`console`: its URL; `key`: an operator's key."""

    def __init__(self, console: str, key: str) -> None:
        self._console, self._key = console.rstrip("/"), key

    def read_runbook(self, alert: Told) -> str:
        """The page that the alert names. Raises SystemExit if it does not say to roll back."""
        page = Path(ROOT / alert.annotations["runbook"])
        if not page.is_file():
            raise SystemExit(f"the alert names {alert.annotations['runbook']}, which does not exist")
        text = page.read_text()
        if not _BACK.search(text):
            raise SystemExit(f"{page.name} does not say to roll back")
        return page.name

    def find_cause(self, pipeline: str, patience_s: float) -> Cause:
        """From the first page: what changed, and that it is worse than before. Raises SystemExit if it says otherwise."""
        ends = time.monotonic() + patience_s
        while True:
            page = self._ask("/index.json")
            card = next(c for c in page["pipelines"] if c["pipeline"] == pipeline)
            assessment, release = card["assessment"], card["release"]
            if assessment["level"] == "bad":
                return Cause(
                    release["number"],
                    "; ".join(map(str, release["changes"])),
                    assessment["sentence"],
                    card["way_back"]["to"],
                )
            if time.monotonic() > ends:
                raise SystemExit(f"the console says {assessment['title']!r}: {assessment['sentence']}")
            time.sleep(_AGAIN_S)

    def roll_back(self, pipeline: str, cause: Cause) -> int:
        """From the console, as its button does; returns the number of the new release."""
        fields = {
            "number": cause.number,
            "to": cause.back_to,
            "reason": "wrong more often than before, by its outcomes",
        }
        made = self._ask(f"/pipelines/{pipeline}/rollback.json", fields)
        return int(made["release"]["number"])

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._console}{path}",
            data,
            {"authorization": f"Bearer {self._key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
