"""Types what a runbook says under "How to see it", while its alert fires."""

import re
import shlex
import subprocess
from collections.abc import Mapping

from headrace.slo import runbook
from tests.system import HEADRACE, HOME, ROOT

_COMMAND = re.compile(r"`(headrace [a-z][^`]*)`")
_SEE = re.compile(r"^## How to see it$(.*?)^## ", re.MULTILINE | re.DOTALL)
# These would change something, or need what only a person has.
_NOT_TYPED = re.compile(r"shadow|predict|_ID|REQUEST|PREDICTION|MODEL|VIEW|FILE|…")
_LIMIT_S = 120


def diagnosis(alert: str, labels: Mapping[str, str]) -> list[str]:
    """The commands of its page, with the alert's own names in them."""
    page = (ROOT / "deploy/runbooks" / runbook(alert)).read_text()
    found = _SEE.search(page)
    assert found is not None, alert
    texts = [" ".join(text.split()) for text in _COMMAND.findall(found[1])]
    names = {"PIPELINE": labels.get("pipeline") or "flights", "TENANT": labels.get("tenant") or "demo"}
    for name, value in names.items():
        texts = [text.replace(name, value) for text in texts]
    return [text for text in dict.fromkeys(texts) if not _NOT_TYPED.search(text)]


def walk(alert: str, labels: Mapping[str, str]) -> None:
    """Types them all. A command that diagnoses ends with 0 or, as something is wrong, with 1; never with a traceback."""
    for command in diagnosis(alert, labels):
        words = [str(HEADRACE), *shlex.split(command)[1:], "--home", str(HOME)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        assert done.returncode in (0, 1), (
            f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        # A log that is shown may hold one; the command itself must not.
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"
