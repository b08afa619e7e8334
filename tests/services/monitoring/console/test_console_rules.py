"""The parts of the console by themselves: sessions, attempts, counts, words, security events, and files of others."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.hop.config import ConfigError
from headrace.releases.changes.differences import Difference
from headrace.ticks import LATENCY_BUCKETS, ArmFigures, ArmName
from services.monitoring.console.access import secret
from services.monitoring.console.access.attempts import Attempts
from services.monitoring.console.access.ended_sessions import EndedSessions
from services.monitoring.console.access.operators import Operator
from services.monitoring.console.access.sessions import EndedError, ForgedError, Sessions
from services.monitoring.console.facts import words
from services.monitoring.console.facts.live import NOTHING, Live, arm_row
from services.monitoring.console.settings import ConsoleSettings
from tests.services.clock import Clock

VENDORED = Path(__file__).parents[4] / "services/monitoring/console/static/vendored"
OPERATOR = Operator("ops", "12345678")
GIVEN = {"listen": "127.0.0.1:9900", "secret": "s"}


def sessions(clock: Clock, key: bytes = b"k" * 32) -> Sessions:
    return Sessions(key, clock, EndedSessions(Path("none"), clock))


@given(st.integers(min_value=0), st.sampled_from("ab0-_.="))
def test_a_cookie_with_any_character_changed_is_forged(place: int, character: str) -> None:
    one = sessions(Clock())
    cookie = one.cookie(one.begin(OPERATOR))
    at = place % len(cookie)
    changed = cookie[:at] + character + cookie[at + 1 :]
    if changed != cookie:
        with pytest.raises(ForgedError):
            one.read(changed)


@given(st.text(max_size=200))
def test_no_text_is_a_session_or_a_token(text: str) -> None:
    one = sessions(Clock())
    with pytest.raises(ForgedError):
        one.read(text)
    with pytest.raises(ForgedError):
        one.check_form("nonce", text)
    with pytest.raises(ForgedError):
        one.visit_nonce(text)


def test_a_session_is_what_it_was_until_it_ends() -> None:
    clock = Clock()
    one = sessions(clock)
    made = one.begin(OPERATOR)
    cookie = one.cookie(made)
    assert one.read(cookie) == made
    # Another process with the same secret reads it too; one with another secret does not.
    assert sessions(clock).read(cookie) == made
    with pytest.raises(ForgedError):
        sessions(clock, b"x" * 32).read(cookie)
    # Signatures of one kind are no others.
    with pytest.raises(ForgedError):
        one.read(one.visit())
    with pytest.raises(ForgedError):
        one.visit_nonce(cookie)
    clock.now += 1800
    with pytest.raises(EndedError):
        one.read(cookie)


def test_ended_sessions_are_forgotten_once_they_would_have_ended(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "ended"
    ended = EndedSessions(path, clock)
    ended.add("a", clock.now + 100)
    ended.add("b", clock.now + 200)
    ended.save()
    clock.now += 101
    ended.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["ended"].keys() == {"b"}


def test_failures_of_an_address_and_of_all_are_bounded() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert [attempts.failed("a") for _ in range(6)] == [0.0] * 5 + [12.0]
    assert sum(attempts.failed(str(i)) == 0.0 for i in range(40)) == 25
    clock.now += 2
    assert [attempts.failed(address) == 0.0 for address in "abc"] == [False, True, False]


def figures(rows: int, errors: int = 0, bucket: int = 40) -> ArmFigures:
    return ArmFigures(rows, errors, tuple(rows if i == bucket else 0 for i in range(LATENCY_BUCKETS)))


LIVE = ArmName("p", 1, "live")


def test_rates_are_what_was_added_since_the_last_sample() -> None:
    live = Live()
    live.sample({1: {LIVE: figures(1_000_000)}}, 0.0)
    live.sample({1: {LIVE: figures(1_000_050, 5)}}, 5.0)
    # A router that is new here counted before; only what follows is known to be of now.
    live.sample({1: {LIVE: figures(1_000_150, 5)}, 2: {LIVE: figures(77)}}, 15.0)
    live.sample({2: {LIVE: figures(177), ArmName("p", 2, "canary"): figures(10)}}, 20.0)
    found = live.series("p")
    by_arm = {arm["arm"]: arm for arm in found["arms"]}  # type: ignore[attr-defined]  # JSON
    assert list(by_arm) == ["live", "canary"]
    assert by_arm["live"]["rows_per_s"] == [0.0, 10.0, 10.0, 20.0]
    assert by_arm["live"]["error_share"] == [None, 0.1, 0.0, 0.0]
    assert by_arm["canary"]["rows_per_s"] == [0.0, 0.0, 0.0, 2.0]
    span, sums = live.minute("p")
    assert (span, sums["live"].rows, sums["live"].errors, sum(sums["live"].latency)) == (25.0, 250, 5, 250)
    assert live.rates("p") == [0.0, 10.0, 10.0, 22.0]


def test_the_last_fifteen_minutes_are_kept_and_no_more() -> None:
    live = Live()
    for i in range(400):
        live.sample({1: {LIVE: figures(10 * i)}}, 5.0 * i)
    assert len(live.series("p")["at"]) == 180  # type: ignore[arg-type]  # JSON
    assert live.minute("p")[0] == 60.0


def test_an_arm_without_rows_has_no_figures() -> None:
    row = arm_row("live", NOTHING, 0.0, 0.1)
    assert (row["error_share"], row["p95_ms"], row["rows_per_s"]) == (None, None, 0.0)


def test_shares_and_money_have_the_digits_that_they_are_worth() -> None:
    shares = {None: "–", 0.0: "0", 0.00001: "< 0.01", 0.0004: "0.04", 0.0123: "1.2", 0.5: "50", 1.0: "100"}
    assert {value: words.share(value).removesuffix("\u00a0%") for value in shares} == shares
    money = {12_345.678: "12\u202f345.68", 0.5: "0.50", 0.0123: "0.012", 2.1e-05: "0.000021", -1e-22: "0.00"}
    assert {amount: words.money(amount, "EUR").removesuffix("\u00a0EUR") for amount in money} == money


def test_changes_are_told_in_sentences() -> None:
    changes = [
        Difference("arms.canary.version", "—", "3"),
        Difference("arms.canary.revision", "—", "abc…"),
        Difference("arms.canary.models.light", "—", "2"),
        Difference("arms.live.models.heavy", "7", "8"),
        Difference("assign.weights.live", "100 %", "95 %"),
        Difference("assign.weights.canary", "—", "5 %"),
        Difference("assign.salt", "a", "b"),
        Difference("rollout.state", "—", "running"),
        Difference("rollout.ladder", "—", "0.05, 1"),
        Difference("caps.rows_per_s", "—", "10"),
    ]
    assert [s.replace("\u00a0", " ") for s in words.sentences(changes)] == [
        "share of the rows: live 100 % → 95 %, canary 0 % → 5 %",
        "new arm canary with model light 2",
        "arm live: model heavy 7 → 8",
        "a rollout begins",
        "caps · rows per s: — → 10",
    ]
    assert words.sentences([]) == ["nothing that serves"]


def test_files_of_others_are_unchanged_and_their_licences_named() -> None:
    lines = [line.split() for line in (VENDORED / "SHA256SUMS").read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    there = {path.name: path for path in VENDORED.iterdir() if path.name not in ("SHA256SUMS", "README.md")}
    assert {n: hashlib.sha256(path.read_bytes()).hexdigest() for n, path in there.items()} == listed
    readme = (VENDORED / "README.md").read_text()
    assert "0BSD, `htmx.LICENSE`" in readme
    assert "MIT, `uplot.LICENSE`" in readme


def test_the_secret_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "monitoring" / "console.key"
    made = secret.ensure(path)
    assert (len(made), secret.ensure(path)) == (32, made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        secret.ensure(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="32 bytes"):
        secret.ensure(path)


@pytest.mark.parametrize(
    ("mode", "owner", "read"),
    [
        (0o600, 65532, False),
        (0o640, 65532, True),
        (0o440, 0, False),  # as Kubernetes mounts a Secret with fsGroup
        (0o460, 0, True),
        (0o444, 0, True),
    ],
)
def test_a_mounted_secret_is_read_by_its_group_alone(mode: int, owner: int, read: bool) -> None:
    status = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 65532, 32, 0, 0, 0))
    assert secret.others_can_read(status, 65532) is read
    assert secret.others_can_read(status, owner) is bool(mode & 0o077)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"listen": "0.0.0.0:9900"}, "listen: 0.0.0.0 can be reached from other machines"),
        ({"listen": "console.internal:9900"}, "can be reached from other machines"),
        ({"listen": "127.0.0.1:99999"}, "is no port"),
        ({"listen": "127.0.0.1"}, "listen"),
        ({"certificate": "c.pem"}, "certificate and key belong together"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ConsoleSettings.model_validate({**GIVEN, **changes})


@pytest.mark.parametrize("listen", ["127.0.0.1:9900", "[::1]:9900", "localhost:0"])
def test_this_machine_alone_needs_no_certificate(listen: str) -> None:
    host, port = ConsoleSettings.model_validate({**GIVEN, "listen": listen}).address
    assert f"[{host}]:{port}" == listen if ":" in host else f"{host}:{port}" == listen
