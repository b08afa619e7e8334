"""`headrace release --door`: the command line of another machine, whose home is empty."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from tests.agreed import with_yes
from tests.libs.releases.webhook_receiver import silent
from tests.services.ingress.ingress_door import PIPELINE, Folder
from tests.services.ingress.released_door import ReleasedDoor, begin_anew, store

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def door(releases_door: ReleasedDoor) -> Folder:
    """The door with release 1 alone: doubler 1."""
    begin_anew(releases_door.folder.path)
    return releases_door.folder


def headrace(door: Folder, *arguments: str, code: int = 0, key: str = "") -> str:
    """The command line of another machine: its home is empty."""
    (door.path / "ops.key").write_text(key or door.keys.operator)
    group, *rest = arguments
    way = ["--door", f"http://{door.grpc}", "--key", str(door.path / "ops.key")]
    result = CliRunner().invoke(app, [*with_yes(group, *way, *rest), "--home", str(door.path / "elsewhere")])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


async def test_the_command_line_through_the_door(door: Folder, tmp_path: Path) -> None:
    def work() -> None:
        document = tmp_path / "pipeline.yaml"
        document.write_text(PIPELINE.replace("deadline_ms: 2000", "deadline_ms: 1500"))
        deploy = ("release", "deploy", "double", "--document", str(document), "--models", "doubler=2")
        assert "arms.live.models.doubler 1 2" in headrace(door, *deploy, "--reason", "by hand")
        found = store(door.path).current("double")[0]
        assert (found.number, found.reason, found.author.split("/")[0]) == (2, "by hand", "operator")
        assert "nothing to change (release 2)" in headrace(door, *deploy)
        assert "double" in headrace(door, "release", "show")
        assert '"number": 2' in headrace(door, "release", "show", "double", "--json")
        assert "by hand" in headrace(door, "release", "history", "double")
        headrace(door, "release", "label", "double", "champion", "doubler:3")
        headrace(
            door, "rollout", "start", "double", "--models", "doubler=champion", "--document", str(document)
        )
        status = headrace(door, "rollout", "status", "double")
        assert "running" in status
        assert "monitoring does not answer (this installation has no monitoring service" in status
        headrace(door, "rollout", "promote", "double")
        assert store(door.path).current("double")[0].live.models == {"doubler": "3"}
        headrace(door, "release", "rollback", "double")
        assert store(door.path).current("double")[0].live.models == {"doubler": "2"}
        headrace(door, "release", "freeze", "--reason", "night")
        assert "(night)" in headrace(door, "rollout", "start", "double", "--models", "doubler=4", code=1)
        headrace(door, "release", "freeze", "--off")
        assert store(door.path).frozen() is None

        told = headrace(door, "release", "deploy", "double", "--models", "doubler=9", code=1)
        assert "arms.live.models.doubler: there is no version or label '9'" in told
        assert "7" in headrace(door, "release", "deploy", "double", "--number", "7", code=3)
        assert "removed on its machine" in headrace(door, "release", "remove", "double", code=1)
        assert "has no release" in headrace(door, "release", "show", "other", code=1)
        assert "no operator's key" in headrace(door, "release", "show", code=1, key=door.keys.demo)
        assert "does not know this key" in headrace(door, "release", "show", code=1, key="nonsense")
        # A line break in a key never reaches a header, nor the terminal.
        assert "s3cr3t" not in headrace(door, "release", "show", code=1, key="s3cr3t\nx: y")

    await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("way", "told"),
    [
        (["--door", "ftp://x", "--key", "k"], "is no door"),
        (["--door", "http://u:s3cr3t@x", "--key", "k"], "is no door"),
        (["--door", "http://x"], "name the file with an operator's key"),
    ],
)
async def test_a_door_that_is_none(way: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["release", *way, "show"])
    assert result.exit_code == 2
    assert told in result.output
    assert "s3cr3t" not in result.output


async def test_a_door_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    with silent() as listener:
        port = listener.getsockname()[1]
    way = ["--door", f"http://127.0.0.1:{port}", "--key", str(tmp_path / "key")]
    result = CliRunner().invoke(app, ["release", *way, "show", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert f"the door at 127.0.0.1:{port} does not answer" in result.output
