"""The key of rows: all doors of an installation have the same, also after restarts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from headrace.state import atomic
from headrace.state.redis import RedisCalls, RedisDownError
from services.ingress.admission.row_key import RowKey
from services.ingress.sharing.books import Books
from tests.libs.state.valkey import Valkey


def fail(error: OSError) -> None:
    raise error


def test_of_many_at_once_one_makes_it_and_all_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "queries"
    # All have seen that there is none.
    all_here, write = Barrier(8), atomic.write
    monkeypatch.setattr(atomic, "write", lambda *a, **k: (write(*a, **k), all_here.wait(30)))
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: RowKey(folder, fail).value, range(8)))
    assert len(set(keys)) == 1
    assert [path.name for path in folder.iterdir()] == ["rows.key"]
    assert (folder / "rows.key").stat().st_mode & 0o777 == 0o600
    assert RowKey(folder, fail).value == keys[0]


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[OSError] = []
    key = RowKey(tmp_path / "file", said.append)
    assert len(key.value) == 32
    assert len(said) == 1
    key.agree(b"of all")
    assert (key.value, len(said)) == (b"of all", 2)


async def test_doors_of_several_machines_agree_by_redis(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        folders = [tmp_path / name for name in "abc"]
        keys = [RowKey(folder, fail) for folder in folders]
        first = keys[0].value
        await greet(server, keys[:2])
        assert [key.value for key in keys[:2]] == [first, first]
        assert RowKey(folders[1], fail).value == first

        server.kill()
        with pytest.raises(RedisDownError):
            await greet(server, keys[2:])
        assert keys[2].value != first
        server.start()
        # A Redis that lost its data has it again from the first door that comes.
        await greet(server, [keys[1], keys[2]])
        assert {RowKey(folder, fail).value for folder in folders} == {first}


async def greet(server: Valkey, keys: Sequence[RowKey]) -> None:
    calls = RedisCalls(server.url, 5.0, lambda: 0.0)
    try:
        for i, key in enumerate(keys):
            await Books(calls, f"door{i}", key).hello()
    finally:
        await calls.close()
