"""What is live, read and changed by operators at the door: over gRPC, as JSON as CI systems send it, and by
`headrace release --door`, the command line of another machine, whose home is empty."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.api.releases.v1 import releases_pb2 as pb
from headrace.cli.main import app
from tests.agreed import with_yes
from tests.services.ingress.ingress_calls import call, post, refused
from tests.services.ingress.ingress_door import PIPELINE
from tests.services.ingress.released_door import ReleasedFolder
from tests.webhook_receiver import silent

pytestmark = pytest.mark.asyncio(loop_scope="session")
SERVICE = "/headrace.api.releases.v1.ReleaseService/"


@pytest.fixture
def door(releases_door: ReleasedFolder) -> ReleasedFolder:
    """The door with release 1 alone: doubler 1."""
    releases_door.begin_anew()
    return releases_door


def number(door: ReleasedFolder) -> int:
    return door.store.history("double")[0].number


async def made(door: ReleasedFolder, name: str, request: Any, **options: Any) -> Any:
    reply = getattr(pb, f"{name}Response")
    return await call(door, SERVICE + name, request, reply, key=door.keys.operator, timeout=60, **options)


async def refusal(door: ReleasedFolder, name: str, request: Any, key: str = "") -> tuple[str, str, str]:
    """(code, reason, message); nothing has changed."""
    before = door.store.history("double")
    reply = getattr(pb, f"{name}Response")
    told = await refused(door, SERVICE + name, request, reply, key=key or door.keys.operator, timeout=60)
    assert door.store.history("double") == before
    return told


async def apply(door: ReleasedFolder, body: object, key: str = "") -> tuple[int, Any]:
    return await post(door, SERVICE + "ApplyRelease", body, key or door.keys.operator)


async def test_a_deployment_and_back(door: ReleasedFolder) -> None:
    spec = pb.ArmSpec(pipeline_document=PIPELINE, models={"doubler": "2"})
    request = pb.DeployPipelineRequest(pipeline="double", spec=spec)
    request.options.dry_run = True
    told = (await made(door, "DeployPipeline", request)).change
    held = {(d.key, d.before, d.after) for d in told.differences}
    assert {("arms.candidate.models.doubler", "—", "2"), ("assign.weights.candidate", "—", "95 %")} <= held
    request.without_holdback = True
    told = (await made(door, "DeployPipeline", request)).change
    assert (told.changed, told.release.number, number(door)) == (False, 2, 1)
    assert [(d.key, d.before, d.after) for d in told.differences] == [("arms.live.models.doubler", "1", "2")]
    request.options.dry_run = False
    request.options.reason = "ticket 7"
    request.options.expected_number = 1
    told = (await made(door, "DeployPipeline", request)).change
    assert (told.changed, number(door)) == (True, 2)
    document = json.loads(told.release.document)
    assert document["author"].startswith("operator/")
    assert (document["reason"], len(document["sha256"])) == ("ticket 7", 64)
    # The same again is no change.
    request.options.ClearField("expected_number")
    assert not (await made(door, "DeployPipeline", request)).change.changed

    back = await made(door, "RollBackRelease", pb.RollBackReleaseRequest(pipeline="double"))
    assert json.loads(back.change.release.document)["restores"] == 1
    found = await made(door, "GetRelease", pb.GetReleaseRequest(pipeline="double"))
    assert (found.release.number, found.problem, found.HasField("freeze")) == (3, "", False)
    listed = await made(door, "ListReleases", pb.ListReleasesRequest(pipeline="double"))
    assert [(r.number, r.rolled_back_by) for r in listed.releases] == [(3, 0), (2, 3), (1, 0)]
    code, refused = await post(door, SERVICE + "RollBackRelease", {"pipeline": "double"}, door.keys.operator)
    assert (code, number(door)) == (400, 3)
    assert "rolled back: 2" in refused["message"]
    everything = await made(door, "ListReleases", pb.ListReleasesRequest())
    assert [(r.pipeline, r.number) for r in everything.releases] == [("double", 3)]
    lines = [json.loads(line.line) for line in door.store.records.lines()]
    changes = [(line["action"], line["actor"].split("/")[0]) for line in lines[-2:]]
    assert changes == [("release.change", "operator"), ("release.rollback", "operator")]


async def test_json_as_ci_sends_it(door: ReleasedFolder) -> None:
    arm = {"document": "pipeline.yaml", "models": {"doubler": "3"}}
    wanted = {"pipeline": "double", "arms": {"live": arm}, "caps": {"rows_per_s": 100}}
    body: dict[str, Any] = {
        "document": json.dumps(wanted),
        "pipelineDocuments": {"pipeline.yaml": PIPELINE},
        "options": {"reason": "from git"},
    }
    status, told = await apply(door, body)
    assert (status, told["change"]["changed"], told["change"]["release"]["number"]) == (200, True, "2")
    assert {"key": "caps.rows_per_s", "before": "—", "after": "100.0"} in told["change"]["differences"]
    status, told = await apply(door, body)
    assert (status, told["change"].get("changed", False), number(door)) == (200, False, 2)
    status, told = await apply(door, body | {"again": True, "options": {"expectedNumber": 1}})
    assert (status, told["code"]) == (409, "aborted")
    status, told = await apply(door, {"document": "[]"})
    assert (status, told["code"]) == (400, "invalid_argument")
    status, told = await apply(door, body, door.keys.readonly)
    assert (status, told["code"]) == (403, "permission_denied")


async def test_a_rollout_is_steered(door: ReleasedFolder) -> None:
    request = pb.StartRolloutRequest(
        pipeline="double", spec=pb.ArmSpec(models={"doubler": "2"}), by="n", ladder=[0.2, 1.0], deadline_s=60
    )
    told = json.loads((await made(door, "StartRollout", request)).change.release.document)
    assert told["assign"]["weights"] == {"live": 0.8, "candidate": 0.2}
    assert (told["rollout"]["deadline_s"], told["rollout"]["otherwise"]) == (60, "pause")
    assert told["assign"]["by"] == "n"
    code, reason, message = await refusal(door, "StartRollout", request)
    assert (code, reason) == ("INVALID_ARGUMENT", "RELEASE_INVALID")
    assert "rollout: the one of arm 'candidate' is running" in message
    states = []
    for action in (pb.ROLLOUT_ACTION_PAUSE, pb.ROLLOUT_ACTION_RESUME, pb.ROLLOUT_ACTION_PROMOTE):
        steer = pb.SteerRolloutRequest(pipeline="double", action=action)
        told = json.loads((await made(door, "SteerRollout", steer)).change.release.document)
        states.append(told["rollout"]["state"])
    assert states == ["paused", "running", "promoted"]
    assert door.store.current("double")[0].live.models == {"doubler": "2"}
    code, reason, message = await refusal(
        door, "SteerRollout", pb.SteerRolloutRequest(pipeline="double", action=pb.ROLLOUT_ACTION_ABORT)
    )
    assert (code, reason) == ("INVALID_ARGUMENT", "RELEASE_INVALID")
    assert "none is running" in message


async def test_a_freeze(door: ReleasedFolder) -> None:
    told = await made(door, "SetFreeze", pb.SetFreezeRequest(frozen=True, reason="holidays"))
    assert (told.freeze.reason, told.freeze.author.split("/")[0]) == ("holidays", "operator")
    request = pb.StartRolloutRequest(pipeline="double", spec=pb.ArmSpec(models={"doubler": "2"}))
    code, reason, message = await refusal(door, "StartRollout", request)
    assert (code, reason) == ("FAILED_PRECONDITION", "RELEASE_FROZEN")
    assert "(holidays)" in message
    assert not (await made(door, "SetFreeze", pb.SetFreezeRequest())).HasField("freeze")
    await made(door, "SetFreeze", pb.SetFreezeRequest(pipeline="double", frozen=True))
    assert door.store.current("double")[0].frozen
    assert (await refusal(door, "StartRollout", request))[1] == "RELEASE_FROZEN"


DEPLOY = pb.DeployPipelineRequest
MALFORMED = ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
INVALID = ("INVALID_ARGUMENT", "RELEASE_INVALID")
UNKNOWN = ("NOT_FOUND", "PIPELINE_UNKNOWN")


def live(**fields: Any) -> pb.DeployPipelineRequest:
    return DEPLOY(pipeline="double", spec=pb.ArmSpec(**fields))


def changed(**options: Any) -> pb.DeployPipelineRequest:
    return DEPLOY(pipeline="double", options=pb.ChangeOptions(**options))


# Each request, whose type names its method; code and reason; a part of the message.
WRONG: list[tuple[Any, tuple[str, str], str]] = [
    (pb.GetReleaseRequest(pipeline="other"), UNKNOWN, "has no release"),
    (pb.GetReleaseRequest(pipeline="../x"), MALFORMED, "pipeline: "),
    (pb.ListReleasesRequest(pipeline="/etc"), MALFORMED, "pipeline: "),
    (DEPLOY(), MALFORMED, "pipeline: "),
    (DEPLOY(pipeline="other"), UNKNOWN, "DeployPipeline"),
    (live(models={"doubler": "9"}), INVALID, "arms.live.models.doubler: there is no version or label '9'"),
    (live(models={"doubler": "2"}, settings={"m.k": "1"}), INVALID, "arms.live.settings.m.k"),
    (live(settings={"m.k": "{"}), INVALID, "arms.live.settings.m.k: needs STAGE.KEY"),
    (live(pipeline_document="a: ["), INVALID, "document pipeline_document:1"),
    (changed(expected_number=5), ("ABORTED", "RELEASE_STALE"), "1 is live"),
    (changed(reason="x" * 2001), MALFORMED, "options.reason"),
    (pb.RollBackReleaseRequest(pipeline="double", to_number=7), INVALID, "number: there is no release 7"),
    (pb.SteerRolloutRequest(pipeline="double"), MALFORMED, "action: 0 is none"),
    (pb.ApplyReleaseRequest(document="{"), MALFORMED, "document: "),
    (
        pb.ApplyReleaseRequest(document='{"pipeline": "double", "arms": {"live": {"document": "x"}}}'),
        INVALID,
        "arms.live.document: pipeline_documents has no 'x'",
    ),
]


@pytest.mark.parametrize(("request_", "refused", "message"), WRONG, ids=range(len(WRONG)))
async def test_what_is_wrong_is_named_and_changes_nothing(
    door: ReleasedFolder, request_: Any, refused: tuple[str, str], message: str
) -> None:
    found = await refusal(door, type(request_).__name__.removesuffix("Request"), request_)
    assert found[:2] == refused
    assert message in found[2]


async def test_the_way_back_is_open_while_the_models_cannot_be_listed(
    door: ReleasedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = live(models={"doubler": "2"})
    await made(door, "DeployPipeline", deploy)
    monkeypatch.setattr(door.router, "alone", True)
    deploy.spec.models["doubler"] = "3"
    assert (await refusal(door, "DeployPipeline", deploy))[0] == "UNAVAILABLE"
    await made(door, "RollBackRelease", pb.RollBackReleaseRequest(pipeline="double"))
    assert door.store.current("double")[0].live.models == {"doubler": "1"}
    await made(door, "SetFreeze", pb.SetFreezeRequest(pipeline="double", frozen=True))


async def test_of_concurrent_changes_one_is_made(door: ReleasedFolder) -> None:
    def deploy(version: str) -> Any:
        request = live(models={"doubler": version})
        request.options.expected_number = 1
        return made(door, "DeployPipeline", request)

    done = await asyncio.gather(*(deploy(v) for v in ("2", "3", "4") * 4), return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in done) == 1
    assert number(door) == 2


async def test_a_large_document_is_taken_and_a_too_large_one_not(door: ReleasedFolder) -> None:
    comment = "# " + "x" * 40_000 + "\n"
    spec = pb.ArmSpec(pipeline_document=PIPELINE + comment, models={"doubler": "2"})
    assert (await made(door, "DeployPipeline", DEPLOY(pipeline="double", spec=spec))).change.changed
    spec.pipeline_document += comment
    code, reason, _ = await refusal(door, "DeployPipeline", DEPLOY(pipeline="double", spec=spec))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")


async def test_what_cannot_be_recorded_is_not_done(door: ReleasedFolder) -> None:
    control, request = door.releases.control, live(models={"doubler": "2"})
    control.execute("ALTER TABLE audit RENAME TO away")
    try:
        code, reason, message = await refusal(door, "DeployPipeline", request)
        assert (code, reason) == ("UNAVAILABLE", "RELEASES_UNAVAILABLE")
        assert str(door.path) not in message
    finally:
        control.execute("ALTER TABLE away RENAME TO audit")
    assert (await made(door, "DeployPipeline", request)).change.changed


def headrace(door: ReleasedFolder, *arguments: str, code: int = 0, key: str = "") -> str:
    """The command line of another machine: its home is empty."""
    (door.path / "ops.key").write_text(key or door.keys.operator)
    group, *rest = arguments
    way = ["--door", f"http://{door.grpc}", "--key", str(door.path / "ops.key")]
    result = CliRunner().invoke(app, [*with_yes(group, *way, *rest), "--home", str(door.path / "elsewhere")])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


async def test_the_command_line_through_the_door(door: ReleasedFolder, tmp_path: Path) -> None:
    def work() -> None:
        document = tmp_path / "pipeline.yaml"
        document.write_text(PIPELINE.replace("deadline_ms: 2000", "deadline_ms: 1500"))
        deploy = (
            "release",
            "deploy",
            "double",
            "--document",
            str(document),
            "--models",
            "doubler=2",
            "--no-holdback",
        )
        assert "arms.live.models.doubler 1 2" in headrace(door, *deploy, "--reason", "by hand")
        found = door.store.current("double")[0]
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
        assert door.store.current("double")[0].live.models == {"doubler": "3"}
        headrace(door, "release", "rollback", "double")
        assert door.store.current("double")[0].live.models == {"doubler": "2"}
        headrace(door, "release", "freeze", "--reason", "night")
        assert "(night)" in headrace(door, "rollout", "start", "double", "--models", "doubler=4", code=1)
        headrace(door, "release", "freeze", "--off")
        assert door.store.frozen() is None

        told = headrace(door, "release", "deploy", "double", "--models", "doubler=9", code=1)
        assert "arms.live.models.doubler: there is no version or label '9'" in told
        assert "7" in headrace(door, "release", "deploy", "double", "--number", "7", code=3)
        assert "removed on its machine" in headrace(door, "release", "remove", "double", code=1)
        assert "has no release" in headrace(door, "release", "show", "other", code=1)
        assert "is no operator's" in headrace(door, "release", "show", code=1, key=door.keys.demo)
        assert "does not know the key" in headrace(door, "release", "show", code=1, key="nonsense")
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
