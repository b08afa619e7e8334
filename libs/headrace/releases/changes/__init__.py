"""The next release of a pipeline, from the current one and what somebody wants. Pure: nothing is read or written here.

Each function returns a release that may be committed, or raises ReleaseError, which names each key that is wrong.
"""

from headrace.releases.changes.basis import Basis
from headrace.releases.changes.checks import Documents, checked
from headrace.releases.changes.deployment import HoldbackContext, deployed, labelled, switched, with_holdback
from headrace.releases.changes.desired_document import applied, desired
from headrace.releases.changes.differences import differences, same_content
from headrace.releases.changes.experiments import experiment_started, experiment_stopped
from headrace.releases.changes.models import KnownModels
from headrace.releases.changes.rollback import rolled_back_by, rolled_back_to
from headrace.releases.changes.rollouts import aborted, paused, promoted, resumed, rollout_started
from headrace.releases.changes.shadows import shadow_started, shadow_stopped

__all__ = [
    "Basis",
    "Documents",
    "HoldbackContext",
    "KnownModels",
    "aborted",
    "applied",
    "checked",
    "deployed",
    "desired",
    "differences",
    "experiment_started",
    "experiment_stopped",
    "labelled",
    "paused",
    "promoted",
    "resumed",
    "rolled_back_by",
    "rolled_back_to",
    "rollout_started",
    "same_content",
    "shadow_started",
    "shadow_stopped",
    "switched",
    "with_holdback",
]
