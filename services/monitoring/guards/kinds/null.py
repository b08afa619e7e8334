"""Units that were answered without a value of an output."""

from services.monitoring.guards.rows import RowsGuard

make = RowsGuard
