"""`python -m headrace.dashboards FOLDER`: writes the dashboards."""

from __future__ import annotations

import sys
from pathlib import Path

from headrace.dashboards import DASHBOARDS, grafana


def main(folder: Path) -> None:
    """One file per dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        (folder / f"{dashboard.name}.json").write_text(grafana(dashboard))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
