"""Explanations of predictions: Shapley values of columns against a base row, occlusion of images. Pure."""

from headrace.explanations.base_row import BaseRow, Player, base_row, one_row
from headrace.explanations.coalitions import MOST_EXACT, MOST_PLAYERS, Coalitions, coalitions_of
from headrace.explanations.errors import ExplanationError
from headrace.explanations.patches import Patches, occluded
from headrace.explanations.rows import coalition_columns, values_of
from headrace.explanations.shapley import MOST_ROUNDS, Contributions, contributions, precise

__all__ = [
    "MOST_EXACT",
    "MOST_PLAYERS",
    "MOST_ROUNDS",
    "BaseRow",
    "Coalitions",
    "Contributions",
    "ExplanationError",
    "Patches",
    "Player",
    "base_row",
    "coalition_columns",
    "coalitions_of",
    "contributions",
    "occluded",
    "one_row",
    "precise",
    "values_of",
]
