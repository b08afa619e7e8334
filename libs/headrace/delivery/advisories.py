"""Compares what a lock file or an SBOM names with security advisories in the form of OSV, which the operator brings.

No database of advisories is in the repository. OSV's whole one is public (`osv-vulnerabilities`, PyPI and Debian, as zip files of
such documents): unpack it, or name a file with a list of documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.version import InvalidVersion, Version

from headrace.delivery.debian_versions import debian_key
from headrace.delivery.errors import DeliveryError

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_PURL = re.compile(r'pkg:(pypi|deb/debian)/([^@?#"\s]+)@([^?#"\s]+)')
_ECOSYSTEMS = {"pypi": "PyPI", "deb/debian": "Debian"}


@dataclass(frozen=True, slots=True)
class Package:
    """`ecosystem`: PyPI or Debian. `where`: the file that names it."""

    ecosystem: str
    name: str
    version: str
    where: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A package with a known vulnerability. `fixed`: versions that mend it."""

    package: Package
    advisory: str
    summary: str
    fixed: tuple[str, ...]


def packages(path: Path) -> list[Package]:
    """What a lock file (`name==version` lines) or an SBOM (CycloneDX or SPDX, JSON) names.

    Raises DeliveryError: none, so that a wrong file does not pass as a clean one; OSError.
    """
    text = path.read_text()
    named = _sbom(text) if text.lstrip().startswith("{") else _locked(text)
    found = [Package(ecosystem, name, version, path.name) for ecosystem, name, version in named]
    if not found:
        raise DeliveryError(f"{path} names no package; it must be a lock file or an SBOM in JSON with purls")
    return found


def advisories(path: Path) -> list[Mapping[str, Any]]:
    """All documents of a file or folder. Raises DeliveryError: none, or one that can't be read; OSError."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    found: list[Mapping[str, Any]] = []
    for file in files:
        try:
            told = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise DeliveryError(f"{file} is no JSON ({error})") from None
        for document in told if isinstance(told, list) else [told]:
            if (
                not isinstance(document, dict)
                or not document.get("id")
                or not isinstance(document.get("affected"), list)
            ):
                raise DeliveryError(f"{file}: an advisory must have `id` and `affected`, as OSV has it")
            found.append(document)
    if not found:
        raise DeliveryError(f"{path} has no advisory; name a file or folder of OSV documents")
    return found


def scan(
    found: Iterable[Package], known: Iterable[Mapping[str, Any]], ignored: Sequence[str] = ()
) -> list[Finding]:
    """The packages that advisories affect, except those of advisories in `ignored` (ids or aliases)."""
    by_name: dict[tuple[str, str], list[Package]] = {}
    for package in found:
        by_name.setdefault((package.ecosystem, _normal(package.name)), []).append(package)
    findings: dict[tuple[Package, str], Finding] = {}
    for document in known:
        if document.get("withdrawn") or set(ignored) & {document["id"], *document.get("aliases", ())}:
            continue
        for affected in document["affected"]:
            about = affected.get("package", {})
            key = str(about.get("ecosystem", "")).partition(":")[0], _normal(str(about.get("name", "")))
            for package in by_name.get(key, ()):
                if _affects(affected, package):
                    summary = str(document.get("summary") or document.get("details") or "")[:200]
                    finding = Finding(package, document["id"], summary, tuple(_fixed(affected)))
                    findings.setdefault((package, document["id"]), finding)
    return sorted(findings.values(), key=lambda f: (f.package.name, f.advisory))


def _locked(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        if found := _PINNED.match(line):
            yield "PyPI", found[1], found[2]


def _sbom(text: str) -> Iterator[tuple[str, str, str]]:
    """Packages by their purl, wherever it stands: the same in CycloneDX and SPDX."""
    for kind, name, version in dict.fromkeys(_PURL.findall(text.replace("\\/", "/"))):
        yield _ECOSYSTEMS[kind], unquote(name), unquote(version)


def _affects(affected: Mapping[str, Any], package: Package) -> bool:
    if package.version in affected.get("versions", ()):
        return True
    return any(
        _within(found.get("events", ()), package)
        for found in affected.get("ranges", ())
        if found.get("type") == "ECOSYSTEM"
    )


def _within(events: Iterable[Mapping[str, str]], package: Package) -> bool:
    """Whether a version lies in a range: the last event at or before it says so."""
    version, inside = _key(package.ecosystem, package.version), False
    points = [
        (_key(package.ecosystem, at), what)
        for event in events
        for what, at in event.items()
        if what != "limit"
    ]
    for at, what in sorted(points, key=lambda point: point[0]):
        if at > version or (what == "last_affected" and at == version):
            break
        inside = what == "introduced"
    return inside


def _key(ecosystem: str, version: str) -> Any:
    if ecosystem == "Debian":
        return debian_key(version)
    try:
        return Version(version)
    except InvalidVersion:
        # Older than all: what can't be compared must not hide a finding's begin ("0"), nor end one.
        return Version("0")


def _fixed(affected: Mapping[str, Any]) -> Iterator[str]:
    for found in affected.get("ranges", ()):
        yield from (event["fixed"] for event in found.get("events", ()) if "fixed" in event)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
