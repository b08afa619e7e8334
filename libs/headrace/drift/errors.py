"""What goes wrong with a baseline."""

from __future__ import annotations

from headrace.repository import RepositoryError


class BaselineError(RepositoryError):
    """A baseline can't be used. `column`: the column that is wrong; empty: the document as a whole."""

    def __init__(self, column: str, problem: str, remedy: str, model: str = "", version: str = "") -> None:
        where = f"baseline, column {column!r}" if column else "baseline"
        super().__init__(model, version, f"{where}: {problem}", remedy)
        self.column = column
        self._why = problem

    def of(self, model: str, version: str) -> BaselineError:
        """The same, of a model's version."""
        return BaselineError(self.column, self._why, self.remedy, model, version)
