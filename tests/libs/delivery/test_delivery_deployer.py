"""Deployments one service at a time: what is put back when one is bad, and what is recorded."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.delivery.deployer import Look, Outcome
from headrace.delivery.errors import DeliveryError
from headrace.delivery.records import Result, read
from headrace.state import json_lines
from tests.libs.delivery.delivery_world import LEAVES_FIRST, Clock, Machine, deployer, version


def test_what_runs_already_is_left_alone_and_one_service_can_be_deployed(tmp_path: Path) -> None:
    machine, clock = Machine(), Clock()
    outcome = deployer(tmp_path, machine, clock).deploy(version("1"), "me")
    began, ended = json_lines.entries(tmp_path / "deployments.jsonl")
    assert (began["event"], began["version"], began["services"]["router"]) == (
        "deployment_began", "1", f"sha256:{'a' * 64}"
    )  # fmt: skip
    assert (ended["event"], ended["result"]) == ("deployment_ended", "succeeded")
    assert outcome == Outcome(Result.SUCCEEDED)
    assert machine.done == [(s, "1") for s in LEAVES_FIRST]
    machine.done.clear()
    deployer(tmp_path, machine, clock).deploy(version("1.1"), "me")  # of the same images
    assert machine.done == []
    deployer(tmp_path, machine, clock).deploy(version("2", "b"), "me", ["router"])
    assert machine.done == [("router", "2")]


def test_the_first_that_does_not_start_stops_it_and_all_goes_back_callers_first(tmp_path: Path) -> None:
    machine, clock = Machine(bad={("ingress", "1"): "no"}), Clock()
    assert deployer(tmp_path, machine, clock).deploy(version("1"), "me").result is Result.ROLLED_BACK
    assert machine.runs == dict.fromkeys(LEAVES_FIRST)  # what was there without a deployment
    machine.bad = {("router", "2"): "it did not become ready"}
    deployer(tmp_path, machine, clock).deploy(version("1"), "me")
    machine.done.clear()
    outcome = deployer(tmp_path, machine, clock).deploy(version("2", "b"), "me")
    assert outcome == Outcome(Result.ROLLED_BACK, "router", "it did not become ready")
    assert machine.done == [("features", "2"), ("router", "2"), ("router", "1"), ("features", "1")]
    assert {found.version for found in machine.runs.values() if found} == {"1"}


def test_a_rollback_that_fails_is_a_failure(tmp_path: Path) -> None:
    machine = Machine(bad={("router", "1"): "no", ("features", ""): "its disk is full"})
    outcome = deployer(tmp_path, machine, Clock()).deploy(version("1"), "me")
    assert outcome.result is Result.FAILED
    assert outcome.why == "no; features could not be rolled back: its disk is full"


@pytest.mark.parametrize(
    ("after", "bad"),
    [
        (Look(calls=1100, failed=0), False),
        (Look(calls=1100, failed=1), False),  # 1 of 100
        (Look(calls=1100, failed=2), True),
        (Look(calls=1010, failed=10), False),  # too few to tell
        (Look(calls=50, failed=3), True),  # a new door counts from zero
        (Look("features is unready", 1000, 0), True),
    ],
)
def test_requests_that_fail_after_a_service_was_deployed_make_it_bad(
    tmp_path: Path, after: Look, bad: bool
) -> None:
    looks = iter([Look(calls=1000, failed=0), *[after] * 5])
    machine = Machine(look_at=lambda service: next(looks) if service == "features" else Look())
    outcome = deployer(tmp_path, machine, Clock()).deploy(version("1"), "me")
    assert outcome.result is (Result.ROLLED_BACK if bad else Result.SUCCEEDED)
    assert outcome.service == ("features" if bad else "")


def test_nothing_is_done_for_services_or_images_that_are_not_there(tmp_path: Path) -> None:
    machine = Machine()
    made = deployer(tmp_path, machine, Clock())
    with pytest.raises(DeliveryError, match="nobody: not in version 1"):
        made.deploy(version("1"), "me", ["nobody"])
    with pytest.raises(DeliveryError, match="is no digest"):
        made.deploy(replace(version("1"), images={"router": "latest"}), "me")
    with pytest.raises(DeliveryError, match="has no service that runs on machine"):
        made.deploy(replace(version("1"), images={}), "me")
    assert machine.done == []
    assert read(tmp_path / "deployments.jsonl") == []


def test_what_can_not_be_recorded_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "deployments.jsonl").mkdir()
    machine = Machine()
    with pytest.raises(DeliveryError, match="what can't be recorded is not done"):
        deployer(tmp_path, machine, Clock()).deploy(version("1"), "me")
    assert machine.done == []


def test_a_deployment_that_is_cut_off_is_recorded_as_failed(tmp_path: Path) -> None:
    def cut(service: str) -> Look:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployer(tmp_path, Machine(look_at=cut), Clock()).deploy(version("1"), "me")
    [found] = read(tmp_path / "deployments.jsonl")
    assert (found.result, found.why) == (Result.FAILED, "it was cut off")


def test_one_that_was_killed_counts_as_failed_once_another_began(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "deployments.jsonl"
    made = deployer(tmp_path, Machine(), clock)
    made.records.began("1", "machine", {}, "me")
    assert [d.result for d in read(path)] == [Result.RUNNING]
    clock.pass_s(100)
    made.deploy(version("2"), "me")
    assert [d.result for d in read(path)] == [Result.FAILED, Result.SUCCEEDED]


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    path = tmp_path / "deployments.jsonl"
    deployer(tmp_path, Machine(), Clock()).deploy(version("1"), "me")
    path.write_text(path.read_text().replace('"author": "me"', '"author": "me'))
    with pytest.raises(DeliveryError, match="damaged"):
        read(path)
