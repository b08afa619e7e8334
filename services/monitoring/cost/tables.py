"""Tables of the ledger of cost."""

from __future__ import annotations

from services.monitoring.database.columns import table

KEY = ("tenant", "pipeline", "version", "traffic")
# What was charged, by hour.
CHARGES = table(
    "charges",
    numbers="hour",
    texts="tenant pipeline version traffic service resource currency",
    reals="quantity amount",
)
# What was predicted, by hour.
COUNTS = table("counts", numbers="hour rows requests", texts="tenant pipeline version traffic")
# What is reserved, by hour.
BILLS = table("bills", numbers="hour", texts="resource currency", reals="seconds quantity amount")
# The last values of the processes' counters, so that a restart, or a second process that collects, counts nothing twice.
READINGS = table("readings", texts="name", reals="value time")
# What a process of a service held last.
MEMORY = table("memory", texts="service", reals="process_gb time")
