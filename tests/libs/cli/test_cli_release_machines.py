"""`headrace release` on two machines whose releases are in one Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.columns import DType
from headrace.releases.place import open_store
from headrace.repository import TensorSpec, publish
from tests.agreed import with_yes
from tests.libs.releases.small_pipeline import TEXT
from tests.redis_server import RedisServer

X, Y = TensorSpec("x", DType.FLOAT32, ()), TensorSpec("y", DType.FLOAT32, ())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path)
    found.start()
    yield found
    found.kill()


def home(folder: Path, machine: str, store: str) -> Path:
    made = folder / machine
    for model in ("light", "heavy"):
        for version in ("1", "2", "7"):
            publish(made / "models", model, version, b"no model", inputs=[X], outputs=[Y])
    document = made / "pipelines" / "small" / "pipeline.yaml"
    document.parent.mkdir(parents=True)
    document.write_text(TEXT)
    settings = {
        "router": {"pipelines": str(made / "pipelines")},
        "releases": {"store": store, "machine": machine},
    }
    (made / "settings").mkdir()
    for name, values in settings.items():
        (made / "settings" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return made


def said(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        app, [*with_yes("release", *arguments), "--home", str(home)], catch_exceptions=False
    )
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_history_says_which_machine_made_a_release(tmp_path: Path, server: RedisServer) -> None:
    setting = f"redis://127.0.0.1:{server.port}/0"
    north, south = (home(tmp_path, name, setting) for name in ("north", "south"))
    said(north, "deploy", "small", "--models", "light=1")
    said(south, "deploy", "small", "--models", "light=2")
    store = open_store(setting)
    store.commit(store.current("small")[0].next("mallory", "", 2))
    store.close()
    found = json.loads(
        CliRunner().invoke(app, ["release", "history", "small", "--home", str(north), "--json"]).stdout
    )
    assert [(r["recorded"], (r["recorded_by"] or {}).get("machine")) for r in found["releases"]] == [
        (False, None),
        (True, "south"),
        (True, "north"),
    ]
    assert re.fullmatch(r"headrace:\d+", found["releases"][1]["recorded_by"]["process"])
    assert "not in the audit: 3 (made past it)" in said(north, "history", "small")
    server.command("LPOP", "headrace:{releases}:audit")
    assert "the audit in Redis: it has 1 lines, and 2 were written" in said(south, "history", "small", code=1)
