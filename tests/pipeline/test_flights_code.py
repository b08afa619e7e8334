"""Models are trained again when the code that makes their inputs changes: all of it must be in the digest."""

from pathlib import Path

import pytest

from deploy.pipelines.flights import prepare


def test_the_digest_covers_the_code_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def record(files: list[Path], text: str = "") -> str:
        seen.extend(files)
        return text

    monkeypatch.setattr(prepare, "_hash", record)
    prepare._models_hash()
    steps = prepare.ROOT / "libs/headrace/steps"
    assert {"frame.py", "builtin/categories.py", "builtin/images/decoder.py", "program/program.py"} <= {
        str(p.relative_to(steps)) for p in seen if p.is_relative_to(steps)
    }
