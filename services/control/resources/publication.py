"""Publishes each new position: to those who follow, and to the artifact store for starts without control."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headrace.catalog.access import LeaseToken
from headrace.catalog.errors import RecordsError
from headrace.catalog.leases import REFUSAL
from headrace.catalog.records import CatalogRecords
from services.control.head import Head
from services.control.metrics import Metrics
from services.control.resources.feed import SERVICES, Feed
from services.control.resources.followers import Followers

_WAIT_S = 1.0
# What this process refuses, the others refuse for so long; it says it again with each wait.
_REFUSED_S = 10.0
_AGAIN_S = 0.2
_MAX_REASON = 1000


class Publication:
    """Used on one event loop."""

    def __init__(
        self,
        head: Head,
        feed: Feed,
        followers: Followers,
        metrics: Metrics,
        log: Any,
        records: Callable[[], CatalogRecords],
        threads: ThreadPoolExecutor,
    ) -> None:
        self._head = head
        self._feed = feed
        self._followers = followers
        self._metrics = metrics
        self._log = log
        self._records = records
        self._threads = threads
        self._refusal = self._token = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            known = self._feed.newest
            try:
                seen = await self._head.wait(known.position if known else None, time.monotonic() + _WAIT_S)
                if known is None or seen.position != known.position:
                    await self._feed.read()
                # By what was just read: after `recover` nothing is refused any more, by the others neither.
                self.report()
                await asyncio.get_running_loop().run_in_executor(self._threads, self._refuse)
            except RecordsError:
                await asyncio.sleep(_AGAIN_S)  # the head says it
                self.report()

    async def loaded(self) -> None:
        """Returns once something is published."""
        while self._feed.newest is None:
            await self._feed.changed.wait()

    async def judged(self, epoch: int) -> None:
        """Returns once processes are judged by this epoch: who has begun it must not be refused because of the one before."""
        while (newest := self._feed.newest) is None or newest.position.epoch < epoch:
            await self._feed.changed.wait()
        self.report()

    def _refuse(self) -> None:
        """Has every process of control refuse changes while this one does: who has diverged asks one of them alone. Blocks.
        Raises RecordsError."""
        if self._refusal:
            why = self._refusal[:_MAX_REASON]
            self._token = self._records().take_lease(REFUSAL, why, _REFUSED_S, self._token)
        elif self._token:
            self._records().give_back(LeaseToken(REFUSAL, self._token))
            self._token = ""

    def report(self) -> None:
        """Says what is published, and who follows."""
        if (newest := self._feed.newest) is not None:
            self._metrics.number.set(newest.position.number)
            self._followers.judge_by(self._feed.history, newest.position.epoch)
        counts = self._followers.counts()
        for service in SERVICES:
            self._metrics.followers.labels(service).set(counts.get(service, 0))
        self._metrics.diverged.set(self._followers.diverged())
        if (refusal := self._followers.refusal()) != self._refusal:
            self._refusal = refusal
            if refusal:
                self._log.error("no change is accepted", why=refusal)
            else:
                self._log.info("changes are accepted again")
