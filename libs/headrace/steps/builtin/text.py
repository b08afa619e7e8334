"""Steps on text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from headrace.columns import DType
from headrace.steps.frame import Frame, both
from headrace.steps.options import Options
from headrace.steps.step import Columns, EachColumn, OneColumn
from headrace.steps.value_ranges import Known, Values

# The ingress takes no longer request, unless `limits.max_request_bytes` allows it.
_LONGEST_TEXT = 16 << 20


@dataclass(frozen=True, slots=True)
class Length(OneColumn):
    """`length: {column, into, unit?: characters | bytes}`: int64 length of text."""

    characters: bool
    made = DType.INT64

    @classmethod
    def read(cls, options: Options) -> Length:
        unit = options.choice("unit", ["characters", "bytes"], "characters")
        return cls(*options.new_target(), unit == "characters")

    def flow(self, known: Known) -> None:
        known.put(self.into, Values(DType.INT64, True, 0, _LONGEST_TEXT))

    def run(self, frame: Frame) -> None:
        items, valid = frame.texts(self.column)
        lengths = [len(i.decode(errors="replace")) if self.characters else len(i) for i in items]
        frame.put(self.into, np.array(lengths, np.int64), valid)


@dataclass(frozen=True, slots=True)
class JoinText(Columns):
    """`join_text: {columns: […], into, separator?}`: one key of several texts; no value if one of them has none."""

    into: str
    separator: bytes

    @classmethod
    def read(cls, options: Options) -> JoinText:
        separator = options.text("separator", "").encode()
        columns, into = options.names("columns"), options.name("into")
        return cls(columns, {into: DType.BYTES}, into, separator)

    def run(self, frame: Frame) -> None:
        lists, valid = [], None
        for name in self.reads:
            items, there = frame.texts(name)
            lists.append(items)
            valid = both(valid, there)
        frame.put_texts(self.into, [self.separator.join(parts) for parts in zip(*lists, strict=True)], valid)


@dataclass(frozen=True, slots=True)
class Redact(EachColumn):
    """`redact: {column(s), method: mask | hash | drop, keep_last?, salt?, into?}` of text.

    Keeps personal data from leaving. `mask`: a star for each character but the last `keep_last` (0 if not given; a text
    that is not longer is masked whole). `hash`: 16 hexadecimal digits of BLAKE2b keyed with `salt`: equal texts stay equal,
    and anyone who knows the salt can test a guess. `drop`: no value.
    """

    method: str
    keep_last: int
    salt: bytes
    made = DType.BYTES

    @classmethod
    def read(cls, options: Options) -> Redact:
        method = options.choice("method", ["mask", "hash", "drop"])
        keep = options.integer("keep_last", 0, low=0, high=1024) if method == "mask" else 0
        salt = options.text("salt").encode() if method == "hash" else b""
        if len(salt) > hashlib.blake2b.MAX_KEY_SIZE:
            raise options.error("salt", f"should have at most {hashlib.blake2b.MAX_KEY_SIZE} bytes")
        return cls(options.targets(), method, keep, salt)

    def run(self, frame: Frame) -> None:
        for read, written in self.targets:
            items, valid = frame.texts(read)
            if self.method == "drop":
                frame.put_texts(written, [b""] * frame.rows, np.zeros(frame.rows, bool))
            else:
                frame.put_texts(written, [self._hidden(i) for i in items], valid)

    def _hidden(self, item: bytes) -> bytes:
        if self.method == "hash":
            return hashlib.blake2b(item, digest_size=8, key=self.salt).hexdigest().encode()
        text = item.decode(errors="replace")
        kept = text[len(text) - self.keep_last :] if self.keep_last < len(text) else ""
        return ("*" * (len(text) - len(kept)) + kept).encode()
