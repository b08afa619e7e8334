"""Journals of the audit: what happened. Whether their lines were altered, `headrace audit verify` finds."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from headrace.state import json_lines


def trail(name: str, title: str, path: Path, newest: int) -> dict[str, Any]:
    """The newest entries of a journal, newest first. `problem`: the line that is damaged; empty: none. Blocks. Raises OSError."""
    last: deque[dict[str, Any]] = deque(maxlen=newest)
    count, problem = 0, ""
    try:
        for entry in json_lines.entries(path):
            count += 1
            last.append(entry)
    except FileNotFoundError:
        pass  # nothing was written yet
    except ValueError as error:
        # The text begins with the path, which is nobody's business on a page.
        problem = str(error).removeprefix(f"{path}, ")
    return {"name": name, "title": title, "entries": [*reversed(last)], "count": count, "problem": problem}
