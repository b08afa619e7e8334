"""A loss of power, or SIGKILL, at any moment: every change that was acknowledged is there, none is there by half."""

import hashlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.catalog import verification
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from tests.libs.storage.crashes import Disk, Image, record

CHANGES = 12
# After each change a byte more in `acknowledged`. In the middle the file is closed and opened again, so that its log is copied
# into it and removed.
WRITER = """
import os, sys
from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords

folder, count = sys.argv[1], int(sys.argv[2])
acknowledged = os.open(folder + "/acknowledged", os.O_WRONLY | os.O_CREAT)
records = CatalogRecords.open(folder + "/control.db", initialise=True)
os.write(acknowledged, b".")
for number in range(1, count + 1):
    if number == count // 2:
        records.close()
        records = CatalogRecords.open(folder + "/control.db", initialise=False)
    writes = [Write("a", str(number), b"%d" % number * 500), Write("b", "same", b"%d" % number, number - 1)]
    records.change(Change("ann", "x", "y", writes))
    os.write(acknowledged, b".")
records.close()
"""


def images(operations: list, seed: int) -> Iterator[tuple[int, int, Image]]:
    """Number of the operation; how many changes, with the initialisation, were acknowledged by then; what may be on the disk."""
    disk, seen, chance, acknowledged = Disk(), set(), random.Random(seed), 0
    for number, operation in enumerate(operations):
        if operation.name == "acknowledged":
            acknowledged += len(operation.data)
        elif not operation.name.endswith((".lock", "-shm")):
            disk.do(operation)
        for image in disk.images(chance):
            parts = [name.encode() + b"\0" + hashlib.sha256(image[name]).digest() for name in sorted(image)]
            known = (acknowledged, b"".join(parts))
            if known not in seen:
                seen.add(known)
                yield number, acknowledged, image


def problem(folder: Path, acknowledged: int) -> str:
    """What is wrong with what was found; empty: nothing."""
    address = str(folder / "control.db")
    try:
        records = CatalogRecords.open(address, initialise=False)
    except RecordsUnavailableError as error:
        if error.why is not Unavailable.NOT_INITIALISED or acknowledged:
            return f"{error.why} after {acknowledged} were acknowledged"
        # An initialisation that did not come to its end can be done again.
        records = CatalogRecords.open(address, initialise=True)
    try:
        made = records.position().number
        if made < acknowledged:
            return f"{made} of {acknowledged} that were acknowledged"
        whole = {str(number): b"%d" % number * 500 for number in range(1, made)}
        if {r.name: r.content for r in records.list("a")} != whole:
            return "changes are not whole"
        if [(r.version, r.content) for r in records.list("b")] != [(made - 1, b"%d" % (made - 1))] * (
            made > 1
        ):
            return "the newest change is there by half"
        return "; ".join(one.text for one in verification.verify(records))
    finally:
        records.close()


def problem_of(image: Image, acknowledged: int) -> str:
    # In memory if that can be: replaying needs no disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for name, content in image.items():
            (Path(folder) / name).write_bytes(content)
        return problem(Path(folder), acknowledged)


def test_a_loss_of_power_at_any_moment(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    operations = record(home, WRITER, str(home), str(CHANGES))
    codes = "".join(operation.code for operation in operations)
    assert {*"WSCUD"} <= set(codes), "the recorder saw nothing of that"
    problems, looked_at = [], 0
    for number, acknowledged, image in images(operations, 23):
        if found := problem_of(image, acknowledged):
            problems.append(
                f"after operation {number} ({operations[number].code} {operations[number].name}): {found}"
            )
        looked_at += 1
    assert problems == []
    assert looked_at > 10 * CHANGES
    assert acknowledged == CHANGES + 1


# The parent has imported everything, forks a child that writes, and kills it after so many acknowledgements and so many µs.
KILLED = """
import os, random, signal, sys, time
from headrace.catalog import verification
from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords

address, kills, chance = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))

def write(pipe):
    records = CatalogRecords.open(address, initialise=True)
    while True:
        number = records.position().number
        writes = [Write("a", str(number), b"x" * 3000), Write("b", "same", b"%d" % number, number - 1)]
        records.change(Change("ann", "x", "y", writes))
        os.write(pipe, number.to_bytes(4, "big"))

total = 0
for _ in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write(writer)
    os.close(writer)
    acknowledged = b""
    for _ in range(chance.randrange(4)):
        acknowledged += os.read(reader, 4)
    time.sleep(chance.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 4096):
        acknowledged += more
    os.close(reader)
    records = CatalogRecords.open(address, initialise=True)
    made = records.position().number - 1
    if acknowledged:
        total = int.from_bytes(acknowledged[-4:], "big")
    assert made in (total, total + 1), (made, total)
    total = made
    assert len(records.list("a", names_only=True)) == made
    assert not made or records.read("b", "same")[0].version == made
    problems = verification.verify(records)
    assert not problems, problems
    records.close()
print(total)
"""


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_process_that_is_killed_while_it_writes(tmp_path: Path, kills: int) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "control.db"), str(kills), "23"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= kills
