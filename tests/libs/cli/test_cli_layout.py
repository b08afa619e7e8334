"""Where things lie: private socket folders, and a short path for them however deep the home is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.cli.installation import layout


def test_socket_folders_are_private(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.make()
    for folder in (place.sockets, place.sockets / "starting", place.listed("router")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_deep_home_has_its_sockets_elsewhere_and_always_there(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 80)
    place, again = layout.of(deep), layout.of(deep)
    assert place.sockets == again.sockets
    assert place.sockets != layout.of(tmp_path / ("y" * 80)).sockets
    longest = place.starting("postprocessing", 999_999)
    assert len(os.fsencode(longest)) + len(".abc123") <= 107
    try:
        place.make()
        assert stat.S_IMODE(place.sockets.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(place.sockets, ignore_errors=True)


def test_a_link_in_place_of_a_socket_folder_is_refused(tmp_path: Path) -> None:
    place = layout.of(tmp_path / "home")
    place.run.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.sockets.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(layout.LayoutError, match="belongs to someone else"):
        place.make()


@pytest.mark.parametrize("make", [lambda place: place.make_home(), lambda place: place.make()])
def test_a_home_is_closed_to_others_whoever_made_it(
    tmp_path: Path, make: Callable[[layout.Layout], None]
) -> None:
    before = os.umask(0)
    try:
        fresh, there = layout.of(tmp_path / "deep" / "fresh"), layout.of(tmp_path / "there")
        there.tls.mkdir(parents=True)
        for secret in (
            there.pepper,
            there.demo_key,
            there.model_key,
            there.tenants,
            there.tls / "server.key",
        ):
            secret.write_text("secret")
            assert mode(secret) == 0o666
        (there.tls / "server.pem").write_text("for everybody")
        for place in (fresh, there):
            make(place)
            assert mode(place.home) == 0o700
        assert {mode(p) for p in there.home.rglob("*") if p.is_file() and p.suffix != ".pem"} == {0o600}
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_that_belongs_to_everybody_is_no_home_and_stays_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(layout.LayoutError, match="for everybody"):
        layout.of(tmp_path).make()
    assert mode(tmp_path) == 0o1777
