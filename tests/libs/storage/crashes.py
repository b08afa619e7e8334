"""A disk as it may be after a loss of power, at any moment of what was recorded of a process (`recorder.c`)."""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("recorder.c")
# What a disk writes as a whole.
SECTOR = 512
Image = dict[str, bytes]


@dataclass(frozen=True)
class Operation:
    """`code`: as in recorder.c."""

    code: str
    name: str
    offset: int
    data: bytes


def record(folder: Path, program: str, *arguments: str) -> list[Operation]:
    """What a Python program does to `folder`, which exists."""
    compiler = shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("not installed: gcc")
    library, log = folder.with_name("recorder.so"), folder.with_name("recorded")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"],
        check=True,
    )
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "RECORDED_FOLDER": str(folder),
        "RECORDED_LOG": str(log),
    }
    subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True)
    return list(_operations(log.read_bytes()))


def _operations(log: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(log):
        code, name_length, offset, length = struct.unpack_from("<cIQI", log, at)
        at += struct.calcsize("<cIQI")
        name, at = log[at : at + name_length].decode(), at + name_length
        yield Operation(code.decode(), name, offset, log[at : at + length])
        at += length


def applied(content: bytes, operation: Operation) -> bytes:
    if operation.code == "T":
        return content[: operation.offset].ljust(operation.offset, b"\0")
    end = operation.offset + len(operation.data)
    return content.ljust(operation.offset, b"\0")[: operation.offset] + operation.data + content[end:]


@dataclass
class File:
    """`durable`: as it was when it was last synced. `pending`: what was done to it since."""

    durable: bytes = b""
    pending: list[Operation] = field(default_factory=list)

    def current(self) -> bytes:
        content = self.durable
        for operation in self.pending:
            content = applied(content, operation)
        return content

    def by_chance(self, chance: random.Random) -> bytes:
        """Any of the sectors that were written are done, in any order."""
        content = self.durable
        for operation in self.pending:
            if operation.code == "T":
                content = applied(content, operation) if chance.random() < 0.5 else content
            for start in range(0, len(operation.data), SECTOR):
                if chance.random() < 0.5:
                    data = operation.data[start : start + SECTOR]
                    content = applied(content, Operation("W", operation.name, operation.offset + start, data))
        return content


class Disk:
    """`files` by the names that they have; `durable`: by the names that they had when the folder was last synced."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.durable: Mapping[str, File] = {}

    def do(self, operation: Operation) -> None:
        if operation.code == "C":
            self.files[operation.name] = File()
        elif operation.code == "U":
            del self.files[operation.name]
        elif operation.code == "D":
            self.durable = dict(self.files)
        elif operation.code == "S":
            file = self.files[operation.name]
            file.durable, file.pending = file.current(), []
        else:
            self.files[operation.name].pending.append(operation)

    def images(self, chance: random.Random) -> Iterator[Image]:
        """What may be on the disk after a loss of power: everything; what was synced; any sectors."""
        yield {name: file.current() for name, file in self.files.items()}
        yield {name: file.durable for name, file in self.durable.items()}
        names = chance.choice((self.files, self.durable))
        yield {name: file.by_chance(chance) for name, file in names.items()}
