"""A loss of power, or SIGKILL, at any moment: every change that was acknowledged is there, none is there by half."""

import hashlib
import random
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog import verification
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from tests.libs.storage.crashes import Disk, Image, record

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


def problem(image: Image, acknowledged: int) -> str:
    """What is wrong with what was found; empty: nothing."""
    # In memory if that can be: replaying needs no disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for name, content in image.items():
            (Path(folder) / name).write_bytes(content)
        address = f"{folder}/control.db"
        try:
            records = CatalogRecords.open(address, initialise=False)
        except RecordsUnavailableError as error:
            if error.why is not Unavailable.NOT_INITIALISED or acknowledged:
                return f"{error.why} after {acknowledged} were acknowledged"
            # An initialisation that did not come to its end can be done again.
            records = CatalogRecords.open(address, initialise=True)
        with closing(records):
            made = records.position().number
            if made < acknowledged:
                return f"{made} of {acknowledged} that were acknowledged"
            whole = {str(number): b"%d" % number * 500 for number in range(1, made)}
            if {r.name: r.content for r in records.list("a")} != whole:
                return "changes are not whole"
            newest = [(made - 1, b"%d" % (made - 1))] * (made > 1)
            if [(r.version, r.content) for r in records.list("b")] != newest:
                return "the newest change is there by half"
            return "; ".join(one.text for one in verification.verify(records))


@pytest.mark.parametrize("changes", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_loss_of_power_at_any_moment(tmp_path: Path, changes: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    operations = record(home, WRITER, str(home), str(changes))
    codes = "".join(operation.code for operation in operations)
    assert {*"WSCUD"} <= set(codes), "the recorder saw nothing of that"
    looked_at = 0
    for number, acknowledged, image in images(operations, 23):
        assert problem(image, acknowledged) == "", f"after operation {number}: {operations[number]}"
        looked_at += 1
    assert looked_at > 10 * changes
    assert acknowledged == changes + 1
