"""`rollouts`: bad versions are rolled back by themselves, good ones promoted, through the ingress at 300 requests a second."""

from load.scenarios.releases.rollouts.command import run

__all__ = ["run"]
