"""Units with an output that is not finite: NaN or infinity."""

from services.monitoring.guards.rows import RowsGuard

make = RowsGuard
