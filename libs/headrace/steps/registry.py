"""Which steps there are: the built-in ones, and users' own by entry point.

To add a built-in step: write it in a file of `builtin/` and add a row to `BUILT_IN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import entry_points
from typing import Literal, NamedTuple, TypeAlias

from headrace.steps.builtin import (
    calibration,
    categories,
    conversion,
    dates,
    missing_values,
    predictions,
    scaling,
    text,
)
from headrace.steps.builtin.arithmetic import OPERATIONS, Arithmetic
from headrace.steps.builtin.assembly import Assemble
from headrace.steps.builtin.images.decode_image import DecodeImage
from headrace.steps.step import ReadStep

Kind: TypeAlias = Literal["preprocessing", "postprocessing"]
GROUP = "headrace.steps"
"""Entry points `name = "package.module:read"`; `read(options: Options) -> Step` is a `ReadStep`."""


class BuiltIn(NamedTuple):
    """How a built-in step is made of its options, and the kinds of specification that may name it."""

    read: ReadStep
    kinds: tuple[Kind, ...]


_PRE: tuple[Kind, ...] = ("preprocessing",)
_POST: tuple[Kind, ...] = ("postprocessing",)
_BOTH = _PRE + _POST
BUILT_IN: Mapping[str, BuiltIn] = {
    "impute": BuiltIn(missing_values.Impute.read, _BOTH),
    "is_missing": BuiltIn(missing_values.IsMissing.read, _BOTH),
    "const": BuiltIn(missing_values.Const.read, _BOTH),
    "clip": BuiltIn(scaling.clip, _BOTH),
    "rescale": BuiltIn(scaling.rescale, _BOTH),
    "round": BuiltIn(scaling.round_, _BOTH),
    "scale": BuiltIn(scaling.Scale.read, _PRE),
    "log1p": BuiltIn(scaling.Log1p.read, _PRE),
    "cast": BuiltIn(conversion.Cast.read, _BOTH),
    "rename": BuiltIn(conversion.Rename.read, _BOTH),
    **{name: BuiltIn(partial(Arithmetic.read, name), _BOTH) for name in OPERATIONS},
    "hash": BuiltIn(categories.Hash.read, _BOTH),
    "one_hot": BuiltIn(categories.OneHot.read, _PRE),
    "ordinal": BuiltIn(categories.Ordinal.read, _PRE),
    "bucketize": BuiltIn(categories.Bucketize.read, _PRE),
    "date_parts": BuiltIn(dates.DateParts.read, _PRE),
    "cyclic": BuiltIn(dates.Cyclic.read, _PRE),
    "length": BuiltIn(text.Length.read, _PRE),
    "join_text": BuiltIn(text.JoinText.read, _PRE),
    "redact": BuiltIn(text.Redact.read, _POST),
    "assemble": BuiltIn(Assemble.read, _PRE),
    "decode_image": BuiltIn(DecodeImage.read, _PRE),
    "pick": BuiltIn(predictions.Pick.read, _POST),
    "threshold": BuiltIn(predictions.Threshold.read, _POST),
    "labels": BuiltIn(predictions.Labels.read, _POST),
    "top_k": BuiltIn(predictions.TopK.read, _POST),
    "vote": BuiltIn(predictions.Vote.read, _POST),
    "sigmoid": BuiltIn(calibration.sigmoid, _POST),
    "softmax": BuiltIn(calibration.softmax, _POST),
    "calibrate": BuiltIn(calibration.calibrate, _POST),
}


def names(kind: Kind) -> list[str]:
    """The names of all steps that a specification of `kind` may use, sorted."""
    built_in = {name for name, step in BUILT_IN.items() if kind in step.kinds}
    return sorted(built_in | entry_points(group=GROUP).names)


def find(kind: Kind, name: str) -> ReadStep | None:
    """How the step `name` is made of its options; None if there is none. A built-in step wins over a user's."""
    built_in = BUILT_IN.get(name)
    if built_in is not None and kind in built_in.kinds:
        return built_in.read
    for entry in entry_points(group=GROUP, name=name):
        read: ReadStep = entry.load()
        return read
    return None
