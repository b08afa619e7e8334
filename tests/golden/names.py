"""The public names that a change may not lose silently: commands, settings, metrics and RPCs, as the code defines them."""

import ast
import re
import typing
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from pydantic import BaseModel
from typer.main import get_command

from headrace.cli.main import app
from services.ingress.config import IngressSettings

ROOT = Path(__file__).parents[2]
INSTRUMENTS = {
    f"{kind}{family}" for kind in ("Counter", "Gauge", "Histogram") for family in ("", "MetricFamily")
}


def commands() -> list[str]:
    """A line for each command, and one for each of its arguments and options."""
    return [
        " ".join(("headrace", *path, *found))
        for path, command in _commands(get_command(app))
        for found in ((), *((name,) for p in command.params for name in _names(p)))
    ]


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of the tree. typer's copy of click has no public types."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
    for name, child in sorted((children or {}).items()):
        yield from _commands(child, (*path, name))


def _names(parameter: Any) -> tuple[str, ...]:
    if parameter.param_type_name == "argument":
        return (f"<{parameter.name}>",)
    return (*parameter.opts, *parameter.secondary_opts)


def settings() -> list[str]:
    """`SERVICE: dotted.path` of each value that a service's settings file may have."""
    models = {point.name: point.load().config for point in entry_points(group="headrace.services")}
    models["ingress"] = IngressSettings
    return [f"{service}: {path}" for service, model in models.items() for path in _paths(model)]


def _paths(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections = list(_sections(field.annotation))
        if not sections:
            yield above + name
        for section in sections:
            yield from _paths(section, f"{above}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within a type, such as `dict[str, Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _sections(part)


def metrics() -> list[str]:
    """Names in modules that make instruments; and where one line makes several, its expression (`name('rows')`)."""
    trees = [
        ast.parse(text)
        for folder in ("libs/headrace", "services")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "from prometheus_client" in (text := path.read_text())
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    computed = {
        ast.unparse(node.args[0])
        for node in nodes
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in INSTRUMENTS
    }
    return [n for n in names if re.fullmatch(r"headrace_\w*[a-z0-9]", n)] + [
        c for c in computed if re.match(r"f'|name\(", c)
    ]


def rpcs() -> list[str]:
    """`package.Service/Method` of the contracts."""
    image = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "protos/contracts.binpb").read_bytes())
    return [
        f"{file.package}.{service.name}/{method.name}"
        for file in image.file
        for service in file.service
        for method in service.method
    ]


KINDS: dict[str, Callable[[], list[str]]] = {
    "commands": commands,
    "settings": settings,
    "metrics": metrics,
    "rpcs": rpcs,
}


def current(kind: str) -> list[str]:
    """The names of a kind as the code has them, sorted."""
    return sorted(set(KINDS[kind]()))


def golden(kind: str) -> Path:
    """The file that has the names of a kind as they were last agreed on."""
    return Path(__file__).with_name(f"{kind}.txt")


def changes(kind: str) -> tuple[list[str], list[str]]:
    """(gone, new) names against the golden file."""
    now, before = set(current(kind)), set(golden(kind).read_text().splitlines())
    return sorted(before - now), sorted(now - before)


def unmentioned(gone: list[str], changelog: str) -> list[str]:
    """What of `gone` the topmost part of the changelog does not name. A command that is named stands for its options too."""
    topmost = changelog.partition("\n## ")[2].partition("\n## ")[0]

    def named(name: str) -> bool:
        bare = re.escape(name.partition(": ")[2] or name)
        return re.search(rf"(?<![\w.]){bare}(?![\w-])", topmost) is not None

    return [
        name
        for name in gone
        if not named(name) and not ((command := name.rpartition(" ")[0]) in gone and named(command))
    ]
