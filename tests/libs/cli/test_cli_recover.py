"""`headrace recover` where control and its processes are on other machines: by what control kept in the artifact store."""

from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.catalog.access import Change
from headrace.catalog.errors import RecordsDivergedError
from headrace.catalog.remote import RemoteRecords
from headrace.cli.main import app
from headrace.releases.of_records import RecordReleases
from headrace.resources.manifest import new_keys
from tests.control_service import control_here
from tests.services.control.following import first_release

KEYS = new_keys()


def test_an_emptied_database_has_again_what_the_artifact_store_has(tmp_path: Path) -> None:
    store, home = tmp_path / "store", tmp_path / "home"
    with (
        control_here(tmp_path / "one", keys=KEYS, artifacts=str(store)) as here,
        closing(RemoteRecords(here.target)) as records,
    ):
        newest = first_release(records).position
    # Its end waits for nothing, so the store may have less.
    with (
        control_here(tmp_path / "one", keys=KEYS, artifacts=str(store)) as here,
        closing(RemoteRecords(here.target)) as records,
    ):
        assert records.change(Change("me", "x", "y")).position.number == newest.number + 1

    (home / "settings").mkdir(parents=True)
    with (
        control_here(tmp_path / "two", keys=KEYS, artifacts=str(store)) as here,
        closing(RemoteRecords(here.target)) as records,
    ):
        with pytest.raises(RecordsDivergedError, match="the artifact store"):
            records.change(Change("me", "x", "y"))
        (home / "settings" / "releases.yaml").write_text(f"store: control:{here.target}\n")
        command = ["recover", "--home", str(home), "--from-data-planes", "--reason", "lost", "--yes"]
        nothing = CliRunner().invoke(app, [*command, "--public-key", str(here.public_key)])
        assert (nothing.exit_code, "the artifact store" in nothing.output) == (1, True)
        at = ["--artifacts", str(store), "--public-key", str(here.public_key)]
        done = CliRunner().invoke(app, [*command, *at])
        assert (done.exit_code, "release flights: goes live again" in done.output) == (0, True), done.output
        release, _ = RecordReleases(records).current("flights")
        assert release.number == 1
        assert records.change(Change("me", "x", "y")).position.epoch == 2
