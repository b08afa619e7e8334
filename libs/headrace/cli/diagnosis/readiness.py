"""Is an installation ready for production? The two checklists of the seed: before production, and in production.

What a command can see is looked at; what it cannot see, somebody must have said lately (`readiness_attestations`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from headrace import slo
from headrace.access import changes
from headrace.catalog.errors import RecordsError
from headrace.cli.diagnosis import alert_files, encryption_at_rest
from headrace.cli.diagnosis.doctor_checks import Finding, Verdict, bad, good, warn
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
    said, told = evidence.said, partial(_attested, evidence=evidence)
    checks: dict[str, dict[str, Callable[[], Verdict]]] = {
        PRE_PRODUCTION: {
            "metrics of the promises": lambda: _instrumentation(evidence.metrics),
            "models signed and versioned": lambda: _signed(layout),
            "online features as offline": lambda: _parity(evidence.parity),
            "canary and rollback": lambda: _can_go_back(layout),
            "security scans": lambda: told(said.security_scan, "security_scan"),
        },
        PRODUCTION: {
            "promises and alerts": lambda: _objectives(layout),
            "runbooks": lambda: _runbooks(layout),
            "on call": lambda: told(said.on_call, "on_call"),
            "cost and capacity plan": lambda: told(said.capacity_plan, "capacity_plan"),
            "retention of telemetry": lambda: told(said.retention, "retention"),
            "encryption at rest": lambda: _encryption(layout, evidence),
            "access control": lambda: _access(layout, evidence.today),
            "audit": lambda: _audit(layout),
        },
    }
    for checklist, items in checks.items():
        for what, check in items.items():
            yield Item(checklist, Finding(what, *check()))


def _instrumentation(metrics: Mapping[str, str]) -> Verdict:
    if not metrics:
        return warn("nothing runs, so nothing could be read", "headrace up")
    missing = [
        f"{service}: {series}" for service, series in SLI_SERIES.items() if _lacks(metrics, service, series)
    ]
    if missing:
        return bad(f"missing: {', '.join(missing)}", "predict something first; then headrace status")
    return good(f"read from {', '.join(sorted(metrics))}")


def _lacks(metrics: Mapping[str, str], service: str, series: str) -> bool:
    # Together, all services are in the process of the ingress.
    pages = metrics[service] if service in metrics else "".join(metrics.values())
    return re.search(rf"^{series}\b", pages, re.MULTILINE) is None


def _signed(layout: Layout) -> Verdict:
    if not layout.models.is_dir():
        return warn("there are no models yet", "headrace models add")
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
        return bad("; ".join(refused[:3]), "headrace models verify")
    return good(f"{count} versions")


def _parity(parity: Callable[[], str | None]) -> Verdict:
    wrong = parity()
    if wrong is None:
        return warn("not compared", "headrace features check")
    if wrong:
        return bad(wrong, "headrace features materialize")
    return good("a sample is equal")


def _can_go_back(layout: Layout) -> Verdict:
    try:
        store = control_place.releases(layout)
        try:
            counts = {name: len(store.history(name)) for name in store.pipelines()}
        finally:
            store.close()
    except (ConfigError, OSError) as error:
        return bad(str(error), "headrace release show")
    if not counts:
        return bad("nothing is released", "headrace release deploy PIPELINE")
    alone = sorted(name for name, count in counts.items() if count < 2)
    if alone:
        return warn(
            f"{', '.join(alone)}: only one release, so there is nothing to go back to",
            "a second release by: headrace rollout start PIPELINE --models …",
        )
    return good(f"{len(counts)} pipelines can go back; monitoring judges rollouts")


def _objectives(layout: Layout) -> Verdict:
    try:
        settings = alert_files.settings(layout)
        documents = load_folder(layout.documents).values()
    except (ConfigError, DocumentError, OSError) as error:
        return bad(str(error), "headrace pipeline check")
    if not (settings.alertmanager or settings.webhooks):
        return bad("nobody is told of alerts", "webhooks or alertmanager in settings/slo.yaml")
    silent = sorted(document.name for document in documents if document.objectives is None)
    if silent:
        told = f"{', '.join(silent)}: the document promises nothing; watched: {DEFAULT_AVAILABILITY}"
        return warn(told, "the key objectives of the document")
    return good(f"{len(documents)} pipelines")


def _runbooks(layout: Layout) -> Verdict:
    folder = layout.root / _RUNBOOKS
    names = slo.alert_names()
    missing = [name for name in names if not (folder / slo.runbook(name)).is_file()]
    if missing:
        return bad(f"no page for {', '.join(missing)}", f"write it in {_RUNBOOKS}")
    return good(f"a page for each of {len(names)} alerts")


def _access(layout: Layout, today: date) -> Verdict:
    if not layout.home.is_dir() or layout.home.stat().st_mode & 0o077:
        return bad(f"{layout.home} is open to other users", "headrace up closes it")
    try:
        with control_place.records(layout) as records:
            found = changes.read(records).tenants
    except RecordsError as error:
        return bad(str(error), "headrace status")
    ends = certificates.expires(layout.tls / "server.pem")
    if ends is None or ends.date() <= today:
        return bad("the door has no valid certificate", "headrace doctor")
    wide = sorted(name for name, tenant in found.items() if "*" in tenant.pipelines)
    if wide:
        return warn(
            f"{', '.join(wide)} may use all pipelines",
            "headrace tenants set NAME --pipeline PIPELINE",
        )
    return good(f"{len(found)} tenants, each with its own pipelines")


def _audit(layout: Layout) -> Verdict:
    if not layout.model_log.is_file():
        return bad(f"no {_short(layout.model_log)}", "loading a model writes it: headrace up")
    if not os.access(layout.model_log.parent, os.W_OK):
        return bad(f"{layout.model_log.parent} can't be written", "headrace doctor")
    return good(f"written in {_short(layout.model_log.parent)}")


def _encryption(layout: Layout, evidence: Evidence) -> Verdict:
    level, _, fix = _attested(evidence.said.encryption, "encryption", evidence)
    return level, encryption_at_rest.summary(layout, evidence.said, evidence.today), fix


def _attested(said: Attestation | None, key: str, evidence: Evidence) -> Verdict:
    fix = f"when it is done, say so in settings/readiness.yaml: {key}: {{by: NAME, date: {evidence.today}}}"
    if said is None:
        return bad("nobody has said that it is done", fix)
    text = f"{said.by}, {said.date}" + (f": {said.note}" if said.note else "")
    if said.date > evidence.today:
        return bad(f"{text}: in the future", fix)
    if evidence.today > evidence.said.end(said):
        return bad(f"{text}: longer than {evidence.said.valid_days} days ago", fix)
    return good(text)


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
