"""Accounts of the ledger, and what they say."""

from collections.abc import Iterable, Mapping

from headrace.cost import Account, Bill, Charge, Key, account_of


def account_with(
    lines: Iterable[Charge], bills: Iterable[Bill] = (), counts: Mapping[Key, tuple[int, int]] | None = None
) -> Account:
    """Of the first hour of 1970. `counts`: rows and requests."""
    return account_of("EUR", (0, 3600), 3600.0, lines, bills, counts or {}, {"router": 0.2})


def counts_of(account: Account) -> dict[Key, tuple[int, int]]:
    """Rows and requests."""
    return {
        Key(c.key.tenant, c.key.pipeline, c.key.version, c.key.traffic): (c.row_count, c.request_count)
        for c in account.counts
    }
