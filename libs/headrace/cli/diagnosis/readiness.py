"""Is an installation ready for production? The two checklists of the seed: before production, and in production.

What a command can see is looked at; what it cannot see, somebody must have said lately (`readiness_attestations`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from headrace import slo
from headrace.access import changes
from headrace.catalog.errors import RecordsError
from headrace.cli.diagnosis import alert_files, encryption_at_rest
from headrace.cli.diagnosis.doctor_checks import Finding, Level
from headrace.cli.diagnosis.readiness_attestations import Attestation, ReadinessSettings
from headrace.cli.installation import certificates, control_place
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError
from headrace.pipeline import DocumentError, load_folder
from headrace.repository import RepositoryError, Trust
from headrace.slo.objectives import DEFAULT_AVAILABILITY

PRE_PRODUCTION, PRODUCTION = "before production", "in production"
# Series without which a promise can't be watched, by the service that has them.
SLI_SERIES = {
    "ingress": "headrace_objective_requests_total",
    "router": "headrace_router_rows_total",
    "executor": "headrace_executor_run_seconds_bucket",
    "features": "headrace_features_age_seconds_bucket",
}
_RUNBOOKS = "deploy/runbooks"


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a checklist."""

    checklist: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks look at beside the home. `metrics`: service → its metrics page, of what runs; `parity`: what is wrong with
    online features, None: it was not looked at."""

    today: date
    said: ReadinessSettings
    metrics: Mapping[str, str]
    parity: Callable[[], str | None]


def examine(layout: Layout, evidence: Evidence) -> Iterator[Item]:
    """All lines of both checklists."""
    said = evidence.said
    for finding in (
        _instrumentation(evidence.metrics),
        _signed(layout),
        _parity(evidence.parity),
        _can_go_back(layout),
        _told("security scans", said.security_scan, "security_scan", evidence),
    ):
        yield Item(PRE_PRODUCTION, finding)
    for finding in (
        _objectives(layout),
        _runbooks(layout),
        _told("on call", said.on_call, "on_call", evidence),
        _told("cost and capacity plan", said.capacity_plan, "capacity_plan", evidence),
        _told("retention of telemetry", said.retention, "retention", evidence),
        _encryption(layout, evidence),
        _access(layout, evidence.today),
        _audit(layout),
    ):
        yield Item(PRODUCTION, finding)


def _instrumentation(metrics: Mapping[str, str]) -> Finding:
    what = "metrics of the promises"
    if not metrics:
        return Finding(what, Level.WARN, "nothing runs, so nothing could be read", "headrace up")
    missing = [
        f"{service}: {series}" for service, series in SLI_SERIES.items() if _lacks(metrics, service, series)
    ]
    if missing:
        return Finding(
            what, Level.BAD, f"missing: {', '.join(missing)}", "predict something first; then headrace status"
        )
    return Finding(what, Level.GOOD, f"read from {', '.join(sorted(metrics))}")


def _lacks(metrics: Mapping[str, str], service: str, series: str) -> bool:
    # Together, all services are in the process of the ingress.
    pages = metrics[service] if service in metrics else "".join(metrics.values())
    return re.search(rf"^{series}\b", pages, re.MULTILINE) is None


def _signed(layout: Layout) -> Finding:
    what = "models signed and versioned"
    if not layout.models.is_dir():
        return Finding(what, Level.WARN, "there are no models yet", "headrace models add")
    trust = Trust((layout.model_public_key,))
    refused, count = [], 0
    try:
        repository = control_place.models(layout, trust)
        for model in repository.models():
            for version in repository.versions(model):
                count += 1
                try:
                    repository.read(model, version)
                except RepositoryError as error:
                    refused.append(str(error))
    except (RepositoryError, OSError) as error:
        refused.append(str(error))
    if refused:
        return Finding(what, Level.BAD, "; ".join(refused[:3]), "headrace models verify")
    return Finding(what, Level.GOOD, f"{count} versions")


def _parity(parity: Callable[[], str | None]) -> Finding:
    what = "online features as offline"
    wrong = parity()
    if wrong is None:
        return Finding(what, Level.WARN, "not compared", "headrace features check")
    if wrong:
        return Finding(what, Level.BAD, wrong, "headrace features materialize")
    return Finding(what, Level.GOOD, "a sample is equal")


def _can_go_back(layout: Layout) -> Finding:
    what = "canary and rollback"
    try:
        store = control_place.releases(layout)
        try:
            counts = {name: len(store.history(name)) for name in store.pipelines()}
        finally:
            store.close()
    except (ConfigError, OSError) as error:
        return Finding(what, Level.BAD, str(error), "headrace release show")
    if not counts:
        return Finding(what, Level.BAD, "nothing is released", "headrace release deploy PIPELINE")
    alone = sorted(name for name, count in counts.items() if count < 2)
    if alone:
        return Finding(
            what,
            Level.WARN,
            f"{', '.join(alone)}: only one release, so there is nothing to go back to",
            "a second release by: headrace rollout start PIPELINE --models …",
        )
    return Finding(what, Level.GOOD, f"{len(counts)} pipelines can go back; monitoring judges rollouts")


def _objectives(layout: Layout) -> Finding:
    what = "promises and alerts"
    try:
        settings = alert_files.settings(layout)
        documents = load_folder(layout.documents).values()
    except (ConfigError, DocumentError, OSError) as error:
        return Finding(what, Level.BAD, str(error), "headrace pipeline check")
    if not (settings.alertmanager or settings.webhooks):
        return Finding(
            what, Level.BAD, "nobody is told of alerts", "webhooks or alertmanager in settings/slo.yaml"
        )
    silent = sorted(document.name for document in documents if document.objectives is None)
    if silent:
        told = f"{', '.join(silent)}: the document promises nothing; watched: {DEFAULT_AVAILABILITY}"
        return Finding(what, Level.WARN, told, "the key objectives of the document")
    return Finding(what, Level.GOOD, f"{len(documents)} pipelines")


def _runbooks(layout: Layout) -> Finding:
    folder = layout.root / _RUNBOOKS
    names = slo.alert_names()
    missing = [name for name in names if not (folder / slo.runbook(name)).is_file()]
    if missing:
        return Finding("runbooks", Level.BAD, f"no page for {', '.join(missing)}", f"write it in {_RUNBOOKS}")
    return Finding("runbooks", Level.GOOD, f"a page for each of {len(names)} alerts")


def _access(layout: Layout, today: date) -> Finding:
    what = "access control"
    if not layout.home.is_dir() or layout.home.stat().st_mode & 0o077:
        return Finding(what, Level.BAD, f"{layout.home} is open to other users", "headrace up closes it")
    try:
        with control_place.records(layout) as records:
            found = changes.read(records).tenants
    except RecordsError as error:
        return Finding(what, Level.BAD, str(error), "headrace status")
    ends = certificates.expires(layout.tls / "server.pem")
    if ends is None or ends.date() <= today:
        return Finding(what, Level.BAD, "the door has no valid certificate", "headrace doctor")
    wide = sorted(name for name, tenant in found.items() if "*" in tenant.pipelines)
    if wide:
        return Finding(
            what,
            Level.WARN,
            f"{', '.join(wide)} may use all pipelines",
            "headrace tenants set NAME --pipeline PIPELINE",
        )
    return Finding(what, Level.GOOD, f"{len(found)} tenants, each with its own pipelines")


def _audit(layout: Layout) -> Finding:
    what = "audit"
    if not layout.model_log.is_file():
        return Finding(
            what, Level.BAD, f"no {_short(layout.model_log)}", "loading a model writes it: headrace up"
        )
    if not os.access(layout.model_log.parent, os.W_OK):
        return Finding(what, Level.BAD, f"{layout.model_log.parent} can't be written", "headrace doctor")
    return Finding(what, Level.GOOD, f"written in {_short(layout.model_log.parent)}")


def _encryption(layout: Layout, evidence: Evidence) -> Finding:
    attested = _told("encryption at rest", evidence.said.encryption, "encryption", evidence)
    return replace(attested, found=encryption_at_rest.summary(layout, evidence.said, evidence.today))


def _told(what: str, said: Attestation | None, key: str, evidence: Evidence) -> Finding:
    fix = f"when it is done, say so in settings/readiness.yaml: {key}: {{by: NAME, date: {evidence.today}}}"
    if said is None:
        return Finding(what, Level.BAD, "nobody has said that it is done", fix)
    text = f"{said.by}, {said.date}" + (f": {said.note}" if said.note else "")
    if said.date > evidence.today:
        return Finding(what, Level.BAD, f"{text}: in the future", fix)
    if evidence.today > evidence.said.end(said):
        return Finding(what, Level.BAD, f"{text}: longer than {evidence.said.valid_days} days ago", fix)
    return Finding(what, Level.GOOD, text)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
