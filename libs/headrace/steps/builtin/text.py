"""Steps that keep personal data from leaving."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headrace.columns import DType
from headrace.steps.frame import Frame
from headrace.steps.options import Options


@dataclass(frozen=True, slots=True)
class Redact:
    """`redact: {column(s), method: mask | hash | drop, keep_last?, salt?, into?}` of text.

    `mask`: a star per character, but for the last `keep_last` (0 if not given; a text no longer than that is
    masked whole). `hash`: 16 hexadecimal digits of BLAKE2b keyed with `salt`: equal texts stay equal, and who
    knows the salt can test a guess. `drop`: no value.
    """

    targets: tuple[tuple[str, str], ...]
    method: str
    keep_last: int
    salt: bytes

    @classmethod
    def read(cls, options: Options) -> Redact:
        method = options.choice("method", ["mask", "hash", "drop"])
        keep = options.integer("keep_last", 0, low=0, high=1024) if method == "mask" else 0
        salt = options.text("salt").encode() if method == "hash" else b""
        if len(salt) > hashlib.blake2b.MAX_KEY_SIZE:
            raise options.error("salt", f"should have at most {hashlib.blake2b.MAX_KEY_SIZE} bytes")
        return cls(options.targets(), method, keep, salt)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(read for read, _ in self.targets)

    @property
    def writes(self) -> Mapping[str, DType | None]:
        return {written: DType.BYTES for _, written in self.targets}

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
