"""The extraction guard: how many different rows a tenant may send to a pipeline in one day.

To copy a model from its answers, an attacker must send it many different rows; an application sends only what its users
need. So a tenant can have a budget of different rows per day (UTC) and pipeline. A row that was already sent on that day is
free, whatever its result was. Either all rows of a request pass, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

from headrace.columns import Batch, Column, Ragged
from headrace.hop.limiters import TENANT_QUERIES
from headrace.pipeline import Pipeline
from headrace.state.queries import QueryTable, file_of, files_of, remove_others, slots_for
from services.ingress.admission.quotas import QuotaFault
from services.ingress.admission.row_key import RowKey
from services.ingress.auth.authenticator import SecurityEvent
from services.ingress.request_context import RequestContext
from services.ingress.sharing.queries import MergedQueries, TableShare

_DAY_S = 86_400
# The fraction of the budget at which the operators are warned.
_WARNED = 0.8
# If the file can't be used, it is tried again after this time.
_RETRY_S = 10.0
_MOST_PIPELINES = 1_000
# By then the door has asked for a further part of what is left of the budget.
_RETRY_SHARE_S = 0.2


@dataclass(slots=True)
class _Today:
    """One tenant's rows for one pipeline on one day. `tried`: when opening the file was last tried."""

    day: int
    places: int
    table: QueryTable
    in_file: bool
    tried: float
    share: TableShare | None = None


class ExtractionGuard:
    """Counts different rows. `folder`: where the processes of one machine count together, also across restarts; None: each
    counts separately. `wall`: seconds since the epoch."""

    def __init__(
        self,
        folder: Path | None,
        key: RowKey,
        wall: Callable[[], float],
        tell: SecurityEvent,
        complain: Callable[[OSError], None],
        merged: MergedQueries | None = None,
    ) -> None:
        """`merged`: counts with the doors of other machines, whose key must be the same."""
        self._merged = merged
        self._folder = folder
        self._key = key
        self._wall = wall
        self._tell = tell
        self._complain = complain
        self._names: dict[Pipeline, tuple[str, ...]] = {}
        self._todays: dict[tuple[str, str], _Today] = {}

    def check(self, context: RequestContext, pipeline: Pipeline, batch: Batch) -> None:
        """Counts the rows of a request that have passed its checks. If it raises QuotaFault, none is counted.

        For a tenant without a budget there is nothing to do.
        """
        credential = context.credential
        if credential is None or (budget := credential.tenant.limits.distinct_queries_per_day) is None:
            return
        now, tenant = self._wall(), credential.tenant.name
        today = self._today(tenant, pipeline.name, budget, now)
        table = today.table
        new = table.new(self._hashes(pipeline, batch))
        if not new:
            return
        merged, share = self._merged, today.share
        before = table.count if share is None else share.total
        if before + len(new) > budget:
            told = {"pipeline": pipeline.name, "budget": str(budget), "asked": str(before)}
            self._tell("extraction_guard", context, told)
            limit = f"{budget} different rows per day (UTC) of pipeline {pipeline.name}"
            raise QuotaFault(
                tenant,
                TENANT_QUERIES,
                limit,
                wait=_DAY_S - now % _DAY_S,
                empty=False,
            )
        if merged is not None and share is not None:
            if not merged.allows(share, len(new), budget):
                limit = (
                    f"{budget} different rows per day (UTC) of pipeline {pipeline.name}, all doors together"
                )
                raise QuotaFault(tenant, TENANT_QUERIES, limit, wait=_RETRY_SHARE_S, empty=False)
            share.passed(new)
        table.add(new)
        if before < budget * _WARNED <= before + len(new):
            told = {"pipeline": pipeline.name, "budget": str(budget), "asked": str(before + len(new))}
            self._tell("extraction_warning", context, told)

    def keep_only(self, names: set[str]) -> None:
        """Forgets tenants that no longer exist. The files of today stay."""
        for key in [k for k in self._todays if k[0] not in names]:
            del self._todays[key]
        if self._merged is not None:
            self._merged.keep_only(names)

    def _today(self, tenant: str, pipeline: str, budget: int, now: float) -> _Today:
        key, day, places = (tenant, pipeline), int(now // _DAY_S), slots_for(budget)
        found = self._todays.get(key)
        if found is not None and found.day != day:
            found = None
        if found is not None and found.places >= places:
            if found.in_file or self._folder is None or abs(now - found.tried) < _RETRY_S:
                return found
            found.tried = now
        opened = self._opened(tenant, pipeline, day, max(places, found.places if found else 0), now)
        if found is not None:
            if not opened.in_file and found.places >= places:
                return found
            opened.table.add(found.table.hashes())
        self._todays[key] = opened
        if self._merged is not None:
            opened.share = self._merged.share((tenant, pipeline, day), opened.table)
        return opened

    def _opened(self, tenant: str, pipeline: str, day: int, places: int, now: float) -> _Today:
        if self._folder is not None:
            date = f"{datetime.fromtimestamp(day * _DAY_S, UTC):%Y%m%d}"
            try:
                return _Today(day, *_in_file(self._folder, date, tenant, pipeline, places), True, now)
            except OSError as error:
                self._complain(error)
        return _Today(day, places, QueryTable.in_memory(places), False, now)

    def _hashes(self, pipeline: Pipeline, batch: Batch) -> list[int]:
        """One hash per row without an error; a hash is never 0."""
        columns, errors = batch.columns, batch.errors
        names = self._names.get(pipeline)
        if names is None:
            # Needed only for existing documents. Entries of replaced documents are removed when all entries are cleared.
            if len(self._names) > _MOST_PIPELINES:
                self._names.clear()
            names = self._names[pipeline] = tuple(f.name for f in pipeline.inputs)
        if len(batch) == 1:
            return [self._hash(_only_row(columns, names))]
        parts = [part for name in names for part in _parts(columns[name])]
        return [self._hash(row) for i, row in enumerate(zip(*parts, strict=True)) if i not in errors]

    def _hash(self, row: Iterable[bytes | memoryview]) -> int:
        # The key is put before the data, not passed as BLAKE2's key: that would cost an extra block and be no better here.
        digest = blake2b(self._key.value + b"".join(row), digest_size=8).digest()
        return int.from_bytes(digest, "little") or 1


def _in_file(folder: Path, date: str, tenant: str, pipeline: str, places: int) -> tuple[int, QueryTable]:
    """The size and the table of a day's file. Raises OSError.

    A day's table never becomes smaller. If the budget was raised, the hashes of the smaller tables are copied into the new one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_others(folder, date)
    present = files_of(folder, date, tenant, pipeline)
    places = max([places, *(size for _, size in present)])
    table = QueryTable.open(file_of(folder, date, tenant, pipeline, places), places)
    for path, size in present:
        if size != places:
            table.add(QueryTable.open(path, size).hashes())
    return places, table


def _only_row(columns: Mapping[str, Column], names: Iterable[str]) -> list[bytes | memoryview]:
    """The same result as `_parts`, for a batch of one row, in half the time."""
    found: list[bytes | memoryview] = []
    for name in names:
        column = columns[name]
        values = column.values
        if column.valid is not None:
            found.append(b"\1" if column.valid[0] else b"\0")
        if isinstance(values, Ragged):
            for start, stop in pairwise(values.offsets.tolist()):
                found += ((stop - start).to_bytes(4, "little"), values.data[start:stop])
        else:
            found.append(values.tobytes())
    return found


def _parts(column: Column) -> list[list[bytes]]:
    """The bytes of a column, by row. Values of variable length have their length in front."""
    values = column.values
    found: list[list[bytes]] = []
    if column.valid is not None:
        found.append([b"\1" if valid else b"\0" for valid in column.valid.tolist()])
    if isinstance(values, Ragged):
        items = values.to_list()
        for i in range(column.row_size):
            own = items[i :: column.row_size]
            found += [[len(item).to_bytes(4, "little") for item in own], own]
    else:
        raw = values.tobytes()
        size = len(raw) // len(values)
        found.append([raw[at : at + size] for at in range(0, len(raw), size)])
    return found
