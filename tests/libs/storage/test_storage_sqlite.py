"""A file of SQLite: exclusive, private, durable; what is wrong with it is said by its kind."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.storage.mounts import remote_file_system
from tests.children import ends_with_tests
from tests.control_service import execute
from tests.disks import fill, tiny_disk
from tests.libs.catalog.records_contract import LONG_S, change, contents, verified, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.db"


def opened(path: Path, *, initialise: bool = True) -> CatalogRecords:
    return CatalogRecords.open(str(path), initialise=initialise)


def why(work: Callable[[], object]) -> Unavailable:
    with pytest.raises(RecordsUnavailableError) as failed:
        work()
    assert "/" not in str(failed.value), "a path is said"
    return failed.value.why


def test_its_folder_is_made_with_it_and_private(tmp_path: Path) -> None:
    path = tmp_path / "control" / "records.sqlite"
    for missing in (path, tmp_path / "records.sqlite"):
        assert why(lambda: opened(missing, initialise=False)) is Unavailable.NOT_INITIALISED  # noqa: B023  # it is called at once
    assert not [*tmp_path.iterdir()]
    opened(path).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert why(lambda: opened(tmp_path / "a" / "b" / "records.sqlite")) is Unavailable.UNREACHABLE


def test_only_its_owner_may_read_it(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    assert why(lambda: opened(path, initialise=False)) is Unavailable.NOT_INITIALISED
    old = os.umask(0)
    try:
        records = opened(path)
        records.change(change(write("flights", b"1")))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        records.close()
    finally:
        os.umask(old)
    assert modes == {f"control.db{end}": 0o600 for end in ("", "-wal", "-shm", ".lock")}


HOLDER = """
import sys
from headrace.catalog.records import CatalogRecords
records = CatalogRecords.open(sys.argv[1], initialise=True)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_hears_who_has_it(path: Path) -> None:
    command = ends_with_tests(sys.executable, "-c", HOLDER, str(path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(RecordsUnavailableError, match=rf"\(process {holder.pid}\)") as failed:
            opened(path)
        assert failed.value.why is Unavailable.IN_USE
        holder.kill()
    # The kernel unlocks it. This process opens it once, too.
    records = opened(path)
    assert why(lambda: opened(path)) is Unavailable.IN_USE
    records.close()
    records.close()
    opened(path).close()


def test_each_commit_is_on_the_disk_and_what_is_deleted_is_gone_from_it(path: Path) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "secure_delete")
    with closing(opened(path)) as records:

        def read(connection: sa.Connection) -> list[object]:
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

        # 2: FULL, which syncs the log with each commit.
        assert records.database.query(read) == ["wal", 2, 1, 0, 1]


def test_an_open_read_holds_no_writer_up_and_sees_one_moment(path: Path) -> None:
    records = opened(path)

    def read(connection: sa.Connection) -> None:
        first = connection.exec_driver_sql("SELECT number FROM head").scalar()
        made = records.change(change(write("flights", b"1"))).position
        assert records.position() == made
        assert connection.exec_driver_sql("SELECT number FROM head").scalar() == first == made.number - 1

    records.database.query(read)
    records.close()


@pytest.mark.parametrize("where", [0, 4096], ids=["its head", "a page"])
def test_a_damaged_file_is_said(path: Path, where: int) -> None:
    records = opened(path)
    for number in range(30):
        records.change(change(write(f"n{number}", bytes(5000))))
    records.close()
    with path.open("r+b") as file:
        file.seek(where)
        file.write(os.urandom(path.stat().st_size - where))

    def use() -> None:
        damaged = opened(path, initialise=False)
        try:
            damaged.read("release", "n3")
        finally:
            damaged.close()

    assert why(use) is Unavailable.DAMAGED
    # And it lets go of the file.
    assert why(use) is Unavailable.DAMAGED
    path.write_bytes(b"something else, and not short either" * 100)
    assert why(lambda: opened(path)) is Unavailable.DAMAGED
    assert path.read_bytes() == b"something else, and not short either" * 100


def test_yesterdays_file_in_its_place_is_what_is_read(path: Path) -> None:
    """Whoever follows sees that it went back."""
    records = opened(path)
    yesterday = records.change(change(write("flights", b"1"))).position
    backup = path.with_name("backup.db")
    execute(str(path), "VACUUM INTO ?", str(backup))
    known = records.change(change(write("flights", b"2"))).position
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(records.wait, known, LONG_S)
        backup.replace(path)
        assert waiting.result() == yesterday
    assert contents(records, "flights") == [(1, b"1")]
    assert records.head_at(known.number) != known.head
    made = records.change(change(write("flights", b"3"))).position
    assert (made.number, verified(records)) == (known.number, [])
    assert made.head != known.head
    records.close()


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        records = opened(folder / "control.db")
        made = records.change(change(write("flights", b"1"))).position
        rest = fill(folder, "rest")
        assert why(lambda: records.change(change(write("flights", bytes(300_000))))) is Unavailable.FULL
        # It can be read, and goes on when there is room.
        assert records.position() == made
        assert contents(records, "flights") == [(1, b"1")]
        rest.unlink()
        records.change(change(write("flights", b"2", 1)))
        assert verified(records) == []
        records.close()


def test_a_limit_of_a_files_size_is_said_as_a_full_disk(path: Path) -> None:
    """SQLite calls it an error of the device, for the system's error is another one."""
    program = (
        "import resource, sys\n"
        "from headrace.catalog.records import CatalogRecords\n"
        "from headrace.catalog.access import Change, Write\n"
        "records = CatalogRecords.open(sys.argv[1], initialise=True)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    records.change(Change('a', 'b', 'c', [Write('k', 'n', bytes(300_000))]))\n"
        "except OSError as error:\n"
        "    print(error.why)\n"
        "print(records.position().number)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["full", "1"]


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/nfs\\040share rw,relatime shared:1 - nfs4 server:/export rw
41 27 0:51 / /mnt/nfs\\040share/local rw,relatime - xfs /dev/vdb rw
42 27 0:52 / /mnt/sshfs rw,relatime - fuse.sshfs host: rw
43 27 0:53 / /mnt/over rw,relatime - fuse.fuse-overlayfs over rw
44 27 0:54 / /mnt/twice rw,relatime - ext4 /dev/vdc rw
45 44 0:55 / /mnt/twice rw,relatime - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/mnt", ""),
        ("/mnt/nfs share/home", "nfs4"),
        ("/mnt/nfs share/local/home", ""),
        ("/mnt/nfs sharer", ""),
        ("/mnt/sshfs", "fuse.sshfs"),
        ("/mnt/over", ""),
        ("/mnt/twice", "cifs"),
    ],
)
def test_a_network_s_file_system_is_known(tmp_path: Path, folder: str, expected: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert remote_file_system(Path(folder), mounts) == expected


def test_a_network_s_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.storage.sqlite_file.remote_file_system", lambda folder: "nfs4")
    with pytest.raises(RecordsUnavailableError, match="nfs4"):
        opened(path)
    assert [*path.parent.iterdir()] == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_or_empty_is_said_and_nothing_is_written(path: Path, replaced: bool) -> None:
    records = opened(path)
    made = records.change(change(write("flights", b"1")))
    if replaced:
        path.with_name("empty").touch()
        path.with_name("empty").replace(path)
    else:
        for file in path.parent.glob("control.db*"):
            file.unlink()
    for use in (
        lambda: records.change(change()),
        records.position,
        lambda: records.wait(made.position, LONG_S),
    ):
        assert why(use) is Unavailable.NOT_INITIALISED
    assert path.exists() == replaced
    records.close()
