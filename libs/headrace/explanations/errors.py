"""Why a prediction can't be explained."""

from __future__ import annotations


class ExplanationError(ValueError):
    """It can't be explained. `cause`: a fixed word; `column`: which column is the reason, if one is; `remedy`: what to do."""

    def __init__(self, cause: str, message: str, remedy: str = "", column: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.cause = cause
        self.column = column
        self.remedy = remedy
