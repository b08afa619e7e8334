"""`headrace models keys` and `add`: a new version, checked by the executor and signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.catalog.remote import RemoteRecords
from headrace.cli.commands.models import baseline as baselines
from headrace.cli.commands.models import executor_check, options
from headrace.cli.commands.models.executor_check import Bounds
from headrace.cli.commands.models.options import Key, Name, RepositoryPlace, Root, Unsigned, refusals_told
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.repository import Metadata, Repository, changes, publish
from headrace.repository.model_index import newest
from headrace.repository.onnx_inspection import inspect
from headrace.repository.signing import key_pair as pairs

Seconds = Annotated[
    float | None,
    typer.Option("--seconds", min=0.1, help="Time for the check; 120, or the executor's setting."),
]
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory-mib", min=1, help="Memory for the check; three quarters of what is free, at most 8 GiB."
    ),
]
MaxMib = Annotated[int, typer.Option("--max-mib", min=1, help="Larger files are refused.")]
Unchecked = Annotated[
    bool,
    typer.Option(
        "--unchecked", help="Do not load it first, as the executor will, to see that it can be used."
    ),
]
# No ONNX file can be larger: it is one protobuf message.
_MAX_MIB = 2048
_INSPECT_S = 120.0


def keys(home: Home = DEFAULT_HOME) -> None:
    """Make the pair of keys that models of this home are signed with and verified against."""
    layout = place(home)
    try:
        made = pairs.ensure(layout.model_key, layout.model_public_key)
    except (OSError, ValueError) as error:
        fail(f"can't make keys: {error}")
    out.print(
        f"{'made' if made else 'there already'}: {layout.model_key} (keep it), {layout.model_public_key}"
    )


def add(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The ONNX file.")],
    home: Home = DEFAULT_HOME,
    root: Root = "",
    version: Annotated[str, typer.Option(help="The next number if absent.")] = "",
    backend: Annotated[str, typer.Option(help="What runs it.")] = "onnxruntime",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="name:type:dimensions, where the file leaves it open.")
    ] = None,
    outputs: Annotated[list[str] | None, typer.Option("--output", help="The same for outputs.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="JSON: quality on held-out data.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="For drift: the training data (Parquet, CSV, NumPy), or what `baseline` made of them."
        ),
    ] = None,
    trained_on: Annotated[str, typer.Option(help="The data it learned from.")] = "",
    max_rows: Annotated[int | None, typer.Option(min=1, help="Rows in one run, at most.")] = None,
    parents: Annotated[
        list[str] | None, typer.Option("--parent", help="NAME:VERSION it was made from.")
    ] = None,
    files: Annotated[list[Path] | None, typer.Option("--file", help="A further file of the version.")] = None,
    key: Key = None,
    unsigned: Unsigned = False,
    seconds: Seconds = None,
    memory_mib: Memory = None,
    max_mib: MaxMib = _MAX_MIB,
    unchecked: Unchecked = False,
) -> None:
    """Add a version, if the executor can use it. Inputs and outputs are read from the file. Nothing that serves changes."""
    at = RepositoryPlace(place(home), root)
    stated = options.tensors([*(inputs or ()), *(outputs or ())])
    signing_key = at.signing_key(key, unsigned)
    with refusals_told(), at.records() as asked:
        content = options.content(file, max_mib)
        tensors = inspect(name, content, stated, seconds=seconds or _INSPECT_S)
        given: dict[str, Any] = {
            "name": name,
            "version": version or _next_version(at, asked, name),
            "content": content,
            "inputs": tensors[0],
            "outputs": tensors[1],
            "backend": backend,
            "metrics": options.document(metrics),
            "trained_on": trained_on or None,
            "max_rows": max_rows,
            "lineage": {"parents": parents} if parents else {},
            "files": {path.name: options.content(path, max_mib) for path in files or ()},
        }
        if baseline is not None:
            given |= baselines.published(baseline, name, *tensors, given["files"])
        why_not = (
            "--unchecked"
            if unchecked
            else executor_check.check(at.layout, given, Bounds(seconds, memory_mib))
        )
        published = publish(at.root, key=signing_key, **given)
        if asked is not None:
            changes.add(asked, published, options.user())
        _show_added(at, published, why_not, signed=signing_key is not None)


def _next_version(at: RepositoryPlace, asked: RemoteRecords | None, name: str) -> str:
    """One that is neither listed nor has a folder."""
    index = newest(asked, name)[0] if asked else None
    taken = [*Repository(at.root).versions(name), *(index.versions if index else ())]
    return str(max((int(v) for v in taken if v.isdecimal()), default=0) + 1)


def _show_added(at: RepositoryPlace, about: Metadata, why_not: str, *, signed: bool) -> None:
    how = "signed" if signed else "not signed"
    checked = f"not checked ({why_not})" if why_not else "checked by the executor"
    out.print(
        f"added {about.name} version {about.version}, {how}, SHA-256 {about.sha256[:12]}…, {checked}",
        markup=False,
    )
    for title, tensors in (("inputs", about.inputs), ("outputs", about.outputs)):
        out.print(f"  {title}: {', '.join(map(str, tensors))}", markup=False)
    if not at.elsewhere:
        out.print(
            f"  to serve it: headrace release deploy PIPELINE --models {about.name}={about.version}, or step by step: "
            "headrace rollout start",
            markup=False,
            soft_wrap=True,
        )
