"""`wrong-model`: a version that is wrong passes its rollout; page, alert and runbook alone lead back within minutes."""

from load.scenarios.releases.wrong_model.command import run

__all__ = ["run"]
