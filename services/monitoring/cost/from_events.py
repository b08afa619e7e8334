"""Prediction events → who caused how much work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.cost.usage import (
    CACHED,
    EXECUTOR,
    INGRESS,
    LIVE,
    REPLAYED,
    ROUTER,
    SHADOW,
    SHAPES,
    Key,
    Work,
)
from headrace.events import BUSY_OF, ROW, EventGroup, GroupHeader
from headrace.events import CACHED as CACHED_COLUMN
from headrace.pipeline import ModelUse

# Backends whose time is a GPU's.
_ON_GPU = frozenset({"tensorrt"})
# Tenants and pipelines are of documents, so there are few keys. Beyond it, tenants are counted together.
_MAX_KEYS = 10_000
_OTHERS = "(others)"


class CostObserver:
    """Sums up work until it is taken. Runs in the event loop."""

    def __init__(self) -> None:
        self._work: dict[Key, Work] = {}

    def take(self) -> dict[Key, Work]:
        """The work since it was taken last."""
        taken, self._work = self._work, {}
        return taken

    def put_back(self, work: Mapping[Key, Work]) -> None:
        """Work that could not be written: it is taken the next time."""
        for key, one in work.items():
            self._at(key).add(one)

    def observe_group(self, group: EventGroup, now: float) -> None:  # noqa: ARG002 - of the port
        """See `services.monitoring.events.ports.GroupObserver`."""
        header, columns, names = group.header, group.batch.columns, group.batch.rows.tenants
        tenants = {tenant: i for i, tenant in enumerate(dict.fromkeys(names))}
        usual = REPLAYED if header.replayed else SHADOW if header.shadow_of else LIVE
        kept = columns[CACHED_COLUMN].array.astype(np.intp) if CACHED_COLUMN in columns else 0
        # Place of a row's key: its tenant, and whether its answer was a kept one.
        places = 2 * np.array([tenants[t] for t in names], np.intp) + kept
        count = 2 * len(tenants)
        keys = [
            (tenant or "", traffic)
            for tenant in tenants
            for traffic in (usual, CACHED if usual == LIVE else usual)
        ]
        rows = np.bincount(places, minlength=count)
        requests = np.bincount(places[columns[ROW].array == 0], minlength=count)
        self._add_rows(header, keys, rows, requests)
        for name, column in columns.items():
            if name.startswith(BUSY_OF):
                spent = np.bincount(places, column.array.astype(np.float64), count).astype(np.float64)
                self._add_busy(header, keys, name.removeprefix(BUSY_OF), spent)

    def _add_rows(
        self,
        header: GroupHeader,
        keys: Sequence[tuple[str, str]],
        rows: NDArray[np.intp],
        requests: NDArray[np.intp],
    ) -> None:
        """Rows and requests, and by them the work of the router and of the door, which saw no replays and shadows."""
        version = _names(header.models)
        through_door = not (header.replayed or header.shadow_of)
        for (tenant, traffic), r, q in zip(keys, rows.tolist(), requests.tolist(), strict=True):
            if not r:
                continue
            busy = {ROUTER: SHAPES[ROUTER].us(r, q)}
            if through_door:
                busy[INGRESS] = SHAPES[INGRESS].us(r, q)
            self._at(Key(tenant, header.pipeline, version, traffic)).add(Work(r, q, busy))

    def _add_busy(
        self, header: GroupHeader, keys: Sequence[tuple[str, str]], place: str, spent: NDArray[np.float64]
    ) -> None:
        service, _, model = place.partition("/")
        version = model or _names(header.models)
        on_gpu = service == EXECUTOR and any(
            m.backend in _ON_GPU and _name(m) == model for m in header.models
        )
        for (tenant, traffic), us in zip(keys, spent.tolist(), strict=True):
            if us > 0:
                work = Work(busy_us={service: us}, gpu_us=us if on_gpu else 0.0)
                self._at(Key(tenant, header.pipeline, version, traffic)).add(work)

    def _at(self, key: Key) -> Work:
        found = self._work.get(key)
        if found is None:
            if len(self._work) >= _MAX_KEYS:
                key = Key(_OTHERS, key.pipeline, key.version, key.traffic)
            found = self._work.setdefault(key, Work())
        return found


def _name(model: ModelUse) -> str:
    return f"{model.model}:{model.version}"


def _names(models: Sequence[ModelUse]) -> str:
    return "+".join(sorted({_name(m) for m in models}))
