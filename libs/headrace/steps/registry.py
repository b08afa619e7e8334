"""Which steps there are: those built in, and users' own by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Literal, TypeAlias

from headrace.steps.builtin import (
    assembly,
    calibration,
    categories,
    classification,
    conversion,
    dates,
    missing_values,
    scaling,
)
from headrace.steps.builtin.images import decode_image
from headrace.steps.builtin.text import Redact
from headrace.steps.step import ReadStep

Kind: TypeAlias = Literal["preprocessing", "postprocessing"]
GROUP = "headrace.steps"
"""Entry points `name = "package.module:read"`; `read(options: Options) -> Step` is a `ReadStep`."""

_BOTH: Mapping[str, ReadStep] = {
    "impute": missing_values.Impute.read,
    "is_missing": missing_values.IsMissing.read,
    "const": missing_values.Const.read,
    "clip": scaling.clip,
    "rescale": scaling.rescale,
    "round": scaling.round_,
    "cast": conversion.Cast.read,
    "rename": conversion.Rename.read,
    "hash": categories.Hash.read,
    **{n: partial(assembly.Arithmetic.reader, n) for n in ("add", "subtract", "multiply", "ratio")},
}
_PREPROCESSING: Mapping[str, ReadStep] = {
    **_BOTH,
    "scale": scaling.Scale.read,
    "log1p": scaling.Log1p.read,
    "one_hot": categories.OneHot.read,
    "ordinal": categories.Ordinal.read,
    "date_parts": dates.DateParts.read,
    "cyclic": dates.Cyclic.read,
    "bucketize": conversion.Bucketize.read,
    "length": conversion.Length.read,
    "join_text": assembly.JoinText.read,
    "assemble": assembly.Assemble.read,
    "decode_image": decode_image.DecodeImage.read,
}
_POSTPROCESSING: Mapping[str, ReadStep] = {
    **_BOTH,
    "pick": classification.Pick.read,
    "threshold": classification.Threshold.read,
    "labels": classification.Labels.read,
    "top_k": classification.TopK.read,
    "sigmoid": calibration.sigmoid,
    "softmax": calibration.softmax,
    "calibrate": calibration.calibrate,
    "vote": assembly.Vote.read,
    "redact": Redact.read,
}
BUILT_IN: Mapping[Kind, Mapping[str, ReadStep]] = MappingProxyType(
    {"preprocessing": _PREPROCESSING, "postprocessing": _POSTPROCESSING}
)


def names(kind: Kind) -> list[str]:
    """Every step that a specification of `kind` may name."""
    return sorted({*BUILT_IN[kind], *entry_points(group=GROUP).names})


def find(kind: Kind, name: str) -> ReadStep | None:
    """How the step `name` is made of its options; None if there is none. A built-in one wins."""
    built_in = BUILT_IN[kind].get(name)
    if built_in is not None:
        return built_in
    for entry in entry_points(group=GROUP, name=name):
        read: ReadStep = entry.load()
        return read
    return None
