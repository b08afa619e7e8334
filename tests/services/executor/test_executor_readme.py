"""The README's five lines, followed literally."""

import re
from pathlib import Path

import pytest

from tests.services.executor.executor_caller import batch, calling, ys
from tests.services.executor.executor_models import doubling

README = Path(__file__).parents[3] / "services/executor/README.md"


async def test_a_model_of_ones_own_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert len(lines) == 5
    (tmp_path / "mine.onnx").write_bytes(doubling())
    monkeypatch.chdir(tmp_path)
    exec(found[1], {})  # the README's own words
    async with calling(tmp_path / "models") as caller:
        assert ys(await caller(batch(1.0, 2.0), "mine")) == [2.0, 4.0]
