"""What goes wrong with a model repository."""

from __future__ import annotations


class RepositoryError(Exception):
    """A model can't be used. The text names model and version, and says what is wrong and how to repair it.

    For operators (logs, command line), not for callers of a service: it may name files.
    """

    def __init__(self, model: str, version: str, problem: str, remedy: str) -> None:
        where = f"model {model!r}" + (f" version {version!r}" if version else "") if model else "repository"
        super().__init__(f"{where}: {problem}; {remedy}")
        self.model = model
        self.version = version
        self.problem = problem
        self.remedy = remedy


class BadNameError(RepositoryError):
    """This is no allowed name of a model, version or file."""


class AbsentError(RepositoryError):
    """There is no such model, version or label."""


class UntrustedError(RepositoryError):
    """It is not signed, not signed by a trusted key, or differs from what was signed or published."""
