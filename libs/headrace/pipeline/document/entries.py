"""A YAML document as entries that know their line and key, so that each problem names them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import yaml

from headrace.pipeline.document.durations import duration_text, parse_duration
from headrace.pipeline.problems import DocumentError, Problem, Source, suggestion

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DOCUMENT_BYTES = 1 << 20
# Reading one takes about 10 µs, in a process that also serves requests.
MAX_ENTRIES = 50_000
# Nobody reads more.
MAX_PROBLEMS = 100
_MAX_MESSAGE = 500
_TAG = "tag:yaml.org,2002:"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: in YAML 1.1, `NO` (an airline) is false, `1e-3` is text and `12:30` is a number."""

    _entries = 0
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own attribute

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # With aliases a small text can grow without bound, or contain itself.
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", self._here())
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            message = f"has more than {MAX_ENTRIES} keys and values"
            raise yaml.composer.ComposerError(None, None, message, self._here())
        return super().compose_node(parent, index)

    def _here(self) -> yaml.error.Mark:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        return event.start_mark  # type: ignore[return-value]  # set on every event of a pure Python loader


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(f"^(?:{_pattern})$"), _first)


class Log:
    """Collects the problems of one document, and the line of each key."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []

    def source(self) -> Source:
        return Source(self.file, self.lines)

    def add(self, key: str, message: str) -> None:
        if len(message) > _MAX_MESSAGE:
            message = f"{message[:_MAX_MESSAGE]}…"
        self.problems.append(self.source().problem(key, message))
        if len(self.problems) >= MAX_PROBLEMS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        if self.problems:
            raise DocumentError(sorted(dict.fromkeys(self.problems), key=lambda p: p.line))


def compose(text: str, log: Log) -> Entry:
    """The top entry of a document. Raises DocumentError if it is no YAML, too large or empty."""
    if len(text) > MAX_DOCUMENT_BYTES:
        raise DocumentError([Problem(log.file, 1, "(document)", f"larger than {MAX_DOCUMENT_BYTES} bytes")])
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise DocumentError([Problem(log.file, line, "(syntax)", error.problem or "not YAML")]) from None
    except yaml.YAMLError as error:
        raise DocumentError(
            [Problem(log.file, 1, "(syntax)", " ".join(f"not YAML: {error}".split()))]
        ) from None
    except RecursionError:
        raise DocumentError([Problem(log.file, 1, "(syntax)", "nested too deeply")]) from None
    if node is None:
        raise DocumentError([Problem(log.file, 1, "(document)", "empty")])
    return Entry(node, "", log, node.start_mark.line + 1)


class Entry:
    """One value of the document. A value of the wrong type is logged, and a neutral one returned."""

    __slots__ = ("_node", "key", "log")

    def __init__(self, node: yaml.Node, key: str, log: Log, line: int) -> None:
        self._node = node
        self.key = key
        self.log = log
        log.lines[key] = line

    def fail(self, message: str) -> None:
        self.log.add(self.key or "(document)", message)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def entries(self) -> dict[str, Entry]:
        """The keys of a mapping as they are written, in order; one used twice is logged."""
        if not isinstance(self._node, yaml.MappingNode):
            self.fail(f"should be a mapping (key: value), is {self._kind()}")
            return {}
        found: dict[str, Entry] = {}
        for key_node, value in self._node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fail("has a key that is not plain text")
                continue
            name = str(key_node.value)
            path = f"{self.key}.{name}" if self.key else name
            if name in found:
                self.log.add(path, f"used twice (again in line {key_node.start_mark.line + 1})")
                continue
            found[name] = Entry(value, path, self.log, key_node.start_mark.line + 1)
        return found

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Entry]:
        """The keys of a mapping with fixed keys; unknown and missing ones are logged and left out."""
        if not self.is_mapping:
            self.entries()
            return {}
        found, known = self.entries(), (*required, *optional)
        for name in [n for n in found if n not in known]:
            found.pop(name).fail(f"unknown key{suggestion(name, known)}")
        for name in required:
            if name not in found:
                self.fail(f"needs the key {name!r}")
        return found

    def items(self) -> list[Entry]:
        if not isinstance(self._node, yaml.SequenceNode):
            self.fail(f"should be a list, is {self._kind()}")
            return []
        return [
            Entry(n, f"{self.key}[{i}]", self.log, n.start_mark.line + 1)
            for i, n in enumerate(self._node.value)
        ]

    def text(self) -> str:
        value = self.plain()
        if isinstance(value, str):
            return value
        # Where text is wanted, a version `1.0` or a name `42` is the text as it was written.
        if isinstance(self._node, yaml.ScalarNode) and value is not None:
            return str(self._node.value)
        self.fail(f"should be text, is {self._kind()}")
        return ""

    def name(self) -> str:
        text = self.text()
        if text or isinstance(self.plain(), str):
            self.check_name(text)
        return text

    def check_name(self, text: str) -> None:
        """Logs a text (this entry's value or key) that is no valid name."""
        if not NAME.fullmatch(text):
            self.fail(
                f"{text!r} is no name: letters, digits, '_', '.' and '-', not first a digit, at most 128"
            )

    def names(self) -> tuple[str, ...]:
        found: list[str] = []
        for item in self.items():
            name = item.name()
            if name in found:
                item.fail(f"{name!r} is listed twice")
            found.append(name)
        return tuple(found)

    def choice(self, allowed: Iterable[str]) -> str:
        text, allowed = self.text(), tuple(allowed)
        if text not in allowed:
            self.fail(f"{text!r} is not one of {', '.join(allowed)}{_close(text, allowed)}")
            return allowed[0]
        return text

    def integer(self, minimum: int, maximum: int) -> int:
        value = self.plain()
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        self.fail(f"should be an integer from {minimum} to {maximum}, is {self._kind()}")
        return minimum

    def number(self, minimum: float = -math.inf, maximum: float = math.inf) -> float:
        value = self.plain()
        if isinstance(value, int | float) and not isinstance(value, bool) and minimum <= value <= maximum:
            return float(value)
        bounds = [f"at least {minimum:g}"] if minimum > -math.inf else []
        bounds += [f"at most {maximum:g}"] if maximum < math.inf else []
        limits = f" ({' and '.join(bounds)})" if bounds else ""
        self.fail(f"should be a number{limits}, is {self._kind()}")
        return max(minimum, 0.0)

    def number_between(self, above: float, below: float) -> float:
        """A finite number between two others, which are not allowed themselves."""
        value = self.plain()
        if isinstance(value, int | float) and not isinstance(value, bool) and above < value < below:
            return float(value)
        self.fail(f"should be a number above {above:g} and below {below:g}, is {self._kind()}")
        return (above + below) / 2

    def duration(self, minimum_us: int, maximum_us: int) -> int:
        """A text such as `3h` or `1d12h`, in microseconds."""
        value = self.plain()
        found = parse_duration(value) if isinstance(value, str) else None
        if found is not None and minimum_us <= found <= maximum_us:
            return found
        if found is None:
            wrong = f"should be a duration with its unit, such as 90s, 15m, 3h or 1d12h; is {self._kind()}"
        else:
            wrong = f"should be from {duration_text(minimum_us)} to {duration_text(maximum_us)}, is {value}"
        self.fail(wrong)
        return minimum_us

    def boolean(self) -> bool:
        value = self.plain()
        if isinstance(value, bool):
            return value
        self.fail(f"should be true or false, is {self._kind()}")
        return False

    def plain(self) -> Json:
        """The value as JSON has it; keys are text."""
        node = self._node
        if isinstance(node, yaml.MappingNode):
            return {name: entry.plain() for name, entry in self.entries().items()}
        if isinstance(node, yaml.SequenceNode):
            return [entry.plain() for entry in self.items()]
        return self._scalar(str(node.value), node.tag.removeprefix(_TAG))

    def _scalar(self, text: str, tag: str) -> Json:
        if tag == "null":
            return None
        if tag == "bool":
            return text == "true"
        try:
            if tag == "int":
                return int(text)
            if tag == "float" and math.isfinite(
                value := float(text.replace(".inf", "inf").replace(".nan", "nan"))
            ):
                return value
        except ValueError:
            self.fail(f"{text!r} is no {tag}")
            return None
        if tag == "str":
            return text
        self.fail(
            f"{text!r} can't be in a pipeline document: write text, a finite number, true, false or null"
        )
        return None

    def _kind(self) -> str:
        if isinstance(self._node, yaml.ScalarNode):
            return repr(self._node.value)
        return "a mapping" if self.is_mapping else "a list"


def _close(text: str, allowed: Sequence[str]) -> str:
    hint = suggestion(text, allowed)
    return hint if "did you mean" in hint else ""
