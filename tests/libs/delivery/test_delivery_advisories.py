"""Packages against advisories in the form of OSV."""

import json
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.delivery.advisories import Package, advisories, packages, scan
from headrace.delivery.debian_versions import debian_key
from headrace.delivery.errors import DeliveryError

LOCK = """\
# a comment
requests==2.30.0 \\
    --hash=sha256:aa
typing-extensions==4.12.2 ; python_version < '3.13'
feast[redis]==0.67.0
"""
VERSIONS = "1.0~rc1-1 1.0-1 1.0-1+b1 1.0-1.1 1.0a-1 1.0+git-1 1:0.1 1.0 1.0~ 1.10-1 1.9-1 1.0-1~bpo"
SBOM = {
    "bomFormat": "CycloneDX",
    "components": [
        {"purl": "pkg:pypi/Requests@2.30.0"},
        {"purl": "pkg:deb/debian/openssl@3.5.1-1%2Bdeb13u1?arch=amd64&distro=debian-13"},
    ],
}


def advisory(name: str = "requests", ecosystem: str = "PyPI", **affected: Any) -> dict[str, Any]:
    found = affected or within(("introduced", "2.3.0"), ("fixed", "2.31.0"))
    package = {"package": {"ecosystem": ecosystem, "name": name}}
    return {"id": "X-1", "aliases": ["CVE-1"], "summary": "leaks", "affected": [{**package, **found}]}


def test_a_lock_file_and_an_sbom_name_packages(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    (tmp_path / "sbom.json").write_text(json.dumps(SBOM, indent=2))
    assert [(p.name, p.version) for p in packages(tmp_path / "lock.txt")] == [
        ("requests", "2.30.0"),
        ("typing-extensions", "4.12.2"),
        ("feast", "0.67.0"),
    ]
    assert packages(tmp_path / "sbom.json") == [
        Package("PyPI", "Requests", "2.30.0", "sbom.json"),
        Package("Debian", "openssl", "3.5.1-1+deb13u1", "sbom.json"),
    ]


def test_our_own_lock_is_read_whole() -> None:
    lock = Path(__file__).parents[3] / "requirements.lock"
    assert len(packages(lock)) == sum(
        "==" in line and line[0].isalnum() for line in lock.read_text().splitlines()
    )


def within(*events: tuple[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": [{what: version} for what, version in events]}]}


@pytest.mark.parametrize(
    ("affected", "hit", "missed"),
    [
        ({}, "2.3.0 2.30.0 2.31.0rc1", "2.2.9 2.31.0 2.100"),
        (within(("introduced", "0"), ("last_affected", "1.5")), "1.4 1.5", "1.6"),
        (
            within(("introduced", "1"), ("fixed", "2"), ("introduced", "3"), ("fixed", "4")),
            "1.5 3.5",
            "2.5 4",
        ),
        ({"versions": ["9.9.1"]}, "9.9.1", "9.9.2"),
    ],
)
def test_versions_are_affected_within_ranges_or_if_listed(
    affected: dict[str, Any], hit: str, missed: str
) -> None:
    versions = [Package("PyPI", "requests", version, "lock") for version in f"{hit} {missed}".split()]
    found = scan(versions, [advisory(**affected)])
    assert {f.package.version for f in found} == {*hit.split()}
    assert affected or {(f.advisory, f.fixed) for f in found} == {("X-1", ("2.31.0",))}


def test_names_are_normal_ecosystems_apart_and_what_is_withdrawn_or_accepted_is_left_out() -> None:
    package = Package("PyPI", "Typing_Extensions", "2.5", "")
    assert scan([package], [advisory("typing-extensions")])
    assert not scan([package], [advisory("typing-extensions", "Debian:13")])
    assert not scan([package], [{**advisory("typing-extensions"), "withdrawn": "2026-01-01T00:00:00Z"}])
    for name in ("X-1", "CVE-1"):
        assert not scan([package], [advisory("typing-extensions")], [name])


def test_packages_of_debian() -> None:
    known = [advisory("openssl", "Debian:13", **within(("introduced", "0"), ("fixed", "3.5.1-1+deb13u2")))]
    assert scan([Package("Debian", "openssl", "3.5.1-1+deb13u1", "")], known)
    assert not scan([Package("Debian", "openssl", "3.5.1-1+deb13u2", "")], known)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg, so no Debian")
def test_versions_sort_as_dpkg_sorts_them() -> None:
    for one, other in product(VERSIONS.split(), repeat=2):
        older = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0
        assert (debian_key(one) < debian_key(other)) == older, (one, other)


def test_files_that_say_nothing_do_not_pass_as_clean(tmp_path: Path) -> None:
    for name, text, wrong in (("a", "nothing\n", "names no package"), ("b", "{}", "names no package")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DeliveryError, match=wrong):
            packages(tmp_path / name)
    for text, wrong in (("[]", "has no advisory"), ("{", "is no JSON"), ('[{"x": 1}]', "must have `id`")):
        (tmp_path / "osv.json").write_text(text)
        with pytest.raises(DeliveryError, match=wrong):
            advisories(tmp_path / "osv.json")


def test_the_command_fails_for_a_vulnerability(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "X-1.json").write_text(json.dumps(advisory()))
    command = ["deliver", "scan", str(tmp_path / "lock.txt"), "--advisories", str(tmp_path / "osv")]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 1
    assert "requests 2.30.0 (lock.txt): X-1 leaks → 2.31.0" in told.output
    told = CliRunner().invoke(app, [*command, "--ignore", "CVE-1"])
    assert told.exit_code == 0, told.output
    assert "3 packages, 1 advisories, 0 vulnerabilities" in told.output
