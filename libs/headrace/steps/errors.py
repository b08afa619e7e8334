"""What is wrong with a specification of steps."""

from __future__ import annotations


class SpecError(ValueError):
    """The steps do not compile.

    `path`: where in the specification, as `steps[2].impute.columns`; "" for the specification itself. The
    message says what is wrong there, without the path.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])
