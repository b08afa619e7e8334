"""Settings that can't be used are told with file, line and key, or with the variable that they came from."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, ValidationError, model_validator

from headrace.hop import config


class Own(config.Settings):
    """Of a service."""

    server: config.Server
    names: tuple[str, ...] = ()
    weights: Mapping[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("server:\n  listen: unix:/s\n  drain_s: soon\n", "line 3, server.drain_s: Input should be a valid number"),
        ("names: []\nserver: {listen: unix:/s, drain: 1}\n", "line 2, server.drain: Extra inputs"),
        ("names: []\nserver:\n  drain_s: 1\n", "line 2, server.listen: Field required"),
        ("names: []\n", "{file}, server: Field required"),
        ("server: {listen: unix:/s}\nnames:\n  - a\n  - [b]\n", "line 4, names.1: Input should be a valid string"),
        ("server: {listen: unix:/s}\nweights:\n  a: 1\n  b: x\n", "line 4, weights.b: Input should be a valid integer"),
        ("server:\n  listen: [\n", "line 3, near the key 'listen': while parsing a flow node"),
        ("server:\n  listen: unix:/s\n drain_s: 1\n", "line 3, near the key 'drain_s': "),
        ("server: {listen: unix:/s}\nserver: {}\n", "line 2, near the key 'server': the key 'server' is there twice"),
        ("server: {listen: unix:/s}\nnames: 2026-99-99\n", "{file} can't be read: "),
        ("- server\n", "line 1: settings must be keys with values"),
        ("text\n", "line 1: settings must be keys with values"),
        ("names: []\nserver: \x07\n", "line 2: special characters are not allowed"),
        ("server: {listen: !!python/object:os.system x}\n", "line 1, near the key 'server': could not determine"),
    ],
)  # fmt: skip
def test_the_error_names_file_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(Own, file, {})
    told = str(caught.value)
    assert complaint.format(file=file) in told
    assert told.startswith(str(file))
    assert "\n" not in told


def test_each_wrong_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("server:\n  listen: unix:/s\n  allow_plaintext: maybe\n  drain_s: 0\n")
    with pytest.raises(
        config.ConfigError, match=r"line 3, server\.allow_plaintext: .*; .*line 4, server\.drain_s: "
    ):
        config.load(Own, file, {})


def test_a_file_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"server: \xff\n")
    for name in ("binary", "absent", "."):
        with pytest.raises(config.ConfigError, match="can't be read: "):
            config.load(Own, tmp_path / name, {})


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"HEADRACE__SERVER__DRAIN_S": "soon"}, "variable HEADRACE__SERVER__DRAIN_S, server.drain_s: Input"),
        ({"HEADRACE__SERVER__DRAIN_S": "["}, "variable HEADRACE__SERVER__DRAIN_S: while parsing"),
        ({"HEADRACE__NAMES__X": "1"}, "variable HEADRACE__NAMES__X: 'names' has a value already"),
    ],
)
def test_a_variable_is_named(tmp_path: Path, variables: dict[str, str], complaint: str) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("server: {listen: unix:/s}\nnames: [a]\n")
    with pytest.raises(config.ConfigError) as caught:
        config.load(Own, file, variables)
    assert str(caught.value).startswith(complaint)


def test_what_is_well_is_read(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("server: &s {listen: unix:/s}\nweights: {a: 1}\n")
    found = config.load(Own, file, {"HEADRACE__WEIGHTS__B": "2"})
    assert (found.server.listen, found.weights) == ("unix:/s", {"a": 1, "b": 2})
    file.write_text("# nothing\n")
    with pytest.raises(config.ConfigError, match=r"server: Field required"):
        config.load(Own, file, {})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (config.BreakerSettings, {"window_s": 0, "min_calls": 0, "failure_ratio": 0, "slow_s": 0}),
        (config.BreakerSettings, {"open_s": 0, "max_open_s": 0, "probes": 0, "failure_ratio": 1.1}),
        (config.LimiterSettings, {"initial": 0, "minimum": 0, "maximum": 0}),
        (config.RetrySettings, {"attempts": 0, "budget_ratio": -0.1, "backoff_s": 0}),
        (config.RetrySettings, {"budget_ratio": 1.1, "silent_s": 1}),
        (config.CoalesceSettings, {"window": 0, "max_rows": 0, "max_bytes": 0, "max_waiting_rows": 0}),
        (config.ClientSettings, {"default_timeout_s": 0, "resolve_every_s": 0}),
        (config.ClientSettings, {"max_message_bytes": 0, "exchange": "maybe", "unknown": 1}),
    ],
)  # fmt: skip
def test_the_bounds_of_the_plain_settings_are_checked(
    kind: type[config.Settings], wrong: dict[str, object]
) -> None:
    needed = {"target": "unix:/x"} if kind is config.ClientSettings else {}
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({**needed, **wrong})
    assert {error["loc"] for error in caught.value.errors()} == {(name,) for name in wrong}


def test_values_at_the_bounds_are_taken() -> None:
    config.RetrySettings(budget_ratio=0)
    config.RetrySettings(budget_ratio=1)
    config.BreakerSettings(failure_ratio=1)


class Store(config.Settings):
    """Of a service, with a secret in it."""

    url: str = ""
    size: int = 1
    # A key of this form that is the service's own.
    own_file: Path | None = None
    own: int = 0
    names: Mapping[str, str] = Field(default_factory=dict)


class Stores(config.Settings):
    """Of a service that may have a store."""

    store: Store | None = None
    server: config.Server = config.Server(listen="local")

    @model_validator(mode="after")
    def _is_redis(self) -> Self:
        if self.store is not None and not self.store.url.startswith("redis://"):
            raise ValueError(f"{self.store.url!r} is no address")
        return self


def test_a_value_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hush@host\n")
    (tmp_path / "size").write_text("7\n")
    file = tmp_path / "service.yaml"
    file.write_text(f"store: {{url_file: {tmp_path}/url, own_file: /other, names: {{url_file: x}}}}\n")
    found = config.load(Stores, file, {"HEADRACE__STORE__SIZE_FILE": f"{tmp_path}/size"}).store
    assert found == Store(url="redis://:hush@host", size=7, own_file=Path("/other"), names={"url_file": "x"})
    alone = {"HEADRACE__STORE__URL_FILE": f"{tmp_path}/url"}
    assert config.load(Stores, None, alone).store == Store(url="redis://:hush@host")


def test_a_value_file_that_cannot_be_used_is_named_and_its_text_is_not(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("hush\n")
    (tmp_path / "binary").write_bytes(b"hush\xff")
    key = "HEADRACE__STORE__URL_FILE"
    for variables, complaint in (
        ({key: f"{tmp_path}/none"}, f"variable {key}, store.url_file: {tmp_path}/none can't be read: No such file"),
        ({key: f"{tmp_path}/binary"}, f"variable {key}, store.url_file: {tmp_path}/binary can't be read: it is not"),
        ({key: "[]"}, f"variable {key}, store.url_file: must be the path of a file"),
        ({key: f"{tmp_path}/url", "HEADRACE__STORE__URL": "x"}, f"variable {key}, store.url_file: url is set too"),
        ({key: f"{tmp_path}/url"}, "(top): Value error, '(the file's text)' is no address"),
        ({"HEADRACE__STORE__SIZE_FILE": f"{tmp_path}/url"}, "variable HEADRACE__STORE__SIZE_FILE, store.size_file: Input"),
        ({"HEADRACE__STORE__SISE_FILE": "x"}, "variable HEADRACE__STORE__SISE_FILE, store.sise_file: Extra inputs"),
    ):  # fmt: skip
        with pytest.raises(config.ConfigError) as caught:
            config.load(Stores, None, variables)
        assert str(caught.value).startswith(complaint)
        shown = "".join(traceback.format_exception(caught.value))
        assert "hush" not in shown
