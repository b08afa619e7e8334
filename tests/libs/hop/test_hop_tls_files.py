"""TLS files that a peer would refuse are not taken up; the last good ones stay, and it is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from prometheus_client import CollectorRegistry

from headrace.hop import config
from headrace.hop.process.certificates import CertificateInstruments
from headrace.hop.transport import tls as module
from headrace.hop.transport.tls import Side, TlsError, WatchedTls
from tests.libs.hop.hop_certificates import Authority, MountedSecret
from tests.services.clock import Clock

SIDES: tuple[Side, ...] = ("server", "client")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    (tmp_path / "strange").mkdir()
    return Authority(tmp_path / "strange", "stranger")


def unusable(authority: Authority, stranger: Authority) -> Iterator[tuple[config.Tls, str]]:
    """Files, and what is told of them."""
    yield authority.issue("old", "echo.test", days=(-9, -2)), "expired"
    yield authority.issue("early", "echo.test", days=(2, 9)), "not yet valid"
    good, other = authority.issue("good", "echo.test"), stranger.issue("other", "echo.test")
    yield good.model_copy(update={"ca": stranger.ca}), "does not verify"
    yield good.model_copy(update={"key": other.key}), "mismatch"
    yield good.model_copy(update={"key": good.certificate}), "KEY|key|PEM"
    yield good.model_copy(update={"ca": good.key}), "NO_CERTIFICATE|no certificate|PEM"
    yield good.model_copy(update={"certificate": Path("/nowhere.crt")}), r"/nowhere\.crt: No such file"


@pytest.mark.parametrize("side", SIDES)
def test_unusable_files_are_refused_with_their_names(
    authority: Authority, stranger: Authority, side: Side
) -> None:
    for files, why in unusable(authority, stranger):
        with pytest.raises(TlsError, match=why):
            WatchedTls(files, side)


@pytest.mark.parametrize("side", SIDES)
def test_the_last_good_files_stay_and_it_is_told(
    tmp_path: Path, authority: Authority, stranger: Authority, side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    mount = MountedSecret(tmp_path / "mounted", authority.issue("first", "echo.test"))
    watched, registry = WatchedTls(mount.tls, side), CollectorRegistry()
    CertificateInstruments(registry).follow(watched, side, "echo")

    def gauge(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(
            f"headrace_certificate_{name}", {"side": side, "callee": "echo", **labels}
        )

    first = watched.look()
    for files, why in unusable(authority, stranger):
        if not files.certificate.exists():
            continue
        caplog.clear()
        mount.replace(files)
        assert gauge("refused") == 1
        assert watched.look() is first
        assert gauge("end_seconds", file="certificate") == first.certificate_end
        assert why in caplog.text or "|" in why
        assert caplog.text.count("the old ones stay in use") == 1
    newer = authority.issue("newer", "echo.test", days=(-1, 5))
    mount.replace(newer)
    assert gauge("refused") == 0
    assert watched.look().key == newer.key.read_bytes()
    ends = x509.load_pem_x509_certificate(newer.certificate.read_bytes()).not_valid_after_utc
    assert gauge("end_seconds", file="certificate") == ends.timestamp()
    ca_ends = x509.load_pem_x509_certificate(newer.ca.read_bytes()).not_valid_after_utc
    assert gauge("end_seconds", file="ca") == ca_ends.timestamp()


def test_a_ca_is_replaced_in_three_steps(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    old, new = authority.issue("pair", "echo.test"), stranger.issue("pair", "echo.test")
    both = tmp_path / "both.pem"
    both.write_bytes(old.ca.read_bytes() + new.ca.read_bytes())
    mount = MountedSecret(tmp_path / "mounted", old)
    watched = WatchedTls(mount.tls, "server")
    for files in (old.model_copy(update={"ca": both}), new.model_copy(update={"ca": both}), new):
        mount.replace(files)
        assert watched.look().ca == files.ca.read_bytes()
        assert watched.refused == ""


def test_what_was_refused_is_tried_again_without_a_change(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = MountedSecret(tmp_path / "mounted", authority.issue("first", "echo.test"))
    clock = Clock(0.0)
    watched = WatchedTls(mount.tls, "server", clock)
    early = authority.issue("early", "echo.test", days=(2, 9))
    mount.replace(early)
    assert watched.look().key != early.key.read_bytes()

    def days_later(files: Any, side: Side) -> module.Pem:
        return module.Pem(early.certificate.read_bytes(), early.key.read_bytes(), b"", 0.0, 0.0)

    monkeypatch.setattr(module, "_read", days_later)
    assert watched.look().key != early.key.read_bytes()
    clock.now += 5
    assert watched.look().key == early.key.read_bytes()
