"""Assembles what doors of several machines share, as the settings say."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from headrace.hop.config import ConfigError
from headrace.state.redis import RedisCalls
from services.ingress.admission.row_key import RowKey
from services.ingress.ports import Log
from services.ingress.sharing.exchange import Exchange, FormatError
from services.ingress.sharing.metrics import ShareMetrics
from services.ingress.sharing.queries import MergedQueries
from services.ingress.sharing.quotas import LeasedQuotas
from services.ingress.sharing.settings import Sharing

# A Redis that did not answer is asked again after this time: a lease lasts a second.
_PAUSE_S = 0.2


class Shared:
    """Leases of quotas, and merged queries. `clock`: monotonic seconds."""

    def __init__(
        self,
        settings: Sharing,
        row_key: RowKey,
        clock: Callable[[], float],
        metrics: ShareMetrics,
        log: Log,
    ) -> None:
        """Raises ConfigError if the address can't be read."""
        try:
            calls = RedisCalls(settings.redis, settings.timeout_s, clock, pause_s=_PAUSE_S)
        except ConfigError as error:
            raise ConfigError(f"sharing.{error}") from None
        self._exchange = Exchange(calls, secrets.token_hex(8), row_key)
        self._leased = LeasedQuotas(self._exchange, clock, metrics, log)
        self.quotas = self._leased.quotas
        self.queries = MergedQueries(
            self._exchange, clock, lambda: self._leased.doors, lambda: self._leased.away, metrics, log
        )

    async def start(self) -> None:
        """Says that this door is there. Raises ConfigError if Redis holds something else."""
        try:
            await self._leased.start()
        except FormatError as error:
            raise ConfigError(f"sharing.redis: {error}") from None

    async def look(self) -> None:
        """Renews leases, and exchanges queries. Called again and again."""
        await self._leased.look()
        await self.queries.look()

    async def close(self) -> None:
        """Says that this door is gone, and ends the connections."""
        await self._exchange.close()
