"""The key `explanations` of a document: which share of predictions is explained, which output, and against which base row."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.columns import DType
from headrace.pipeline.document.entries import Entry
from headrace.pipeline.problems import suggestion
from headrace.pipeline.spec import ExplanationRule, OutputField, Pipeline
from headrace.pipeline.stage_order import explainable_columns, plan, towards
from headrace.pipeline.types import Scalar, scalar


def is_explainable(output: OutputField) -> bool:
    """Whether contributions to it can be computed: it is one number or truth value a row."""
    return output.dtype is not DType.BYTES and not output.row_shape


def read_explanations(entry: Entry, pipeline: Pipeline) -> ExplanationRule | None:
    """The rule of an entry. `pipeline`: with its outputs. What is wrong is logged; None: too much."""
    fields = entry.fields([], ["coverage", "demanded", "output", "base"])
    coverage = fields["coverage"].number(0, 1) if "coverage" in fields else float(pipeline.regulated)
    if (
        "demanded" in fields and fields["demanded"].boolean()
    ):  # as documents said it before there was a coverage
        coverage = 1.0
    if pipeline.regulated and coverage < 1:
        fields["coverage"].fail("all predictions of a regulated pipeline are explained; leave it away")
    outputs = {o.name: o for o in pipeline.outputs if is_explainable(o)}
    if "output" in fields:
        wanted = fields["output"].name()
        if wanted not in outputs:
            fields["output"].fail(
                f"{wanted!r} is no output that is one number or truth value{suggestion(wanted, outputs)}"
            )
            return None
    elif not outputs:
        entry.fail("no output is one number or truth value, so there is nothing to explain")
        return None
    else:
        wanted = default_output(pipeline)
    whole = plan(pipeline)
    if not (players := towards(whole, wanted).reads):
        entry.fail(f"{wanted!r} depends on no input and no feature column")
        return None
    return ExplanationRule(coverage, wanted, _read_base(fields.get("base"), pipeline, players))


def default_output(pipeline: Pipeline) -> str:
    """The output that is explained if the document names none: the first floating-point number, else the first that can be;
    "": there is none."""
    found = sorted(
        (o for o in pipeline.outputs if is_explainable(o)),
        key=lambda o: not o.dtype.is_float,
    )
    return found[0].name if found else ""


def _read_base(entry: Entry | None, pipeline: Pipeline, players: tuple[str, ...]) -> Mapping[str, Scalar]:
    """Values by column, of the columns' types."""
    types, found = explainable_columns(pipeline), dict[str, Scalar]()
    for name, value in entry.entries().items() if entry is not None else ():
        if name not in players:
            value.fail(
                f"{name!r} is no input or feature column that the output depends on{suggestion(name, players)}"
            )
            continue
        try:
            found[name] = scalar(types[name].dtype, types[name].text, value.plain())
        except ValueError as error:
            value.fail(str(error))
    return found
