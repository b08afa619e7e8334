"""What predictions cost: prices, who pays for what was measured, the ledger of it, and what a load would need."""

from headrace.cost.account import Account, account_of
from headrace.cost.plan import Measurement, Need, Plan, PlanError, of_account, of_file, plan
from headrace.cost.prices import RESOURCES, UNITS, Prices, PricesFile
from headrace.cost.report import By, Group, Report, report
from headrace.cost.split import Bill, Charge, billed, charges
from headrace.cost.usage import Interval, Key, ProcessUse, Work

__all__ = [
    "RESOURCES",
    "UNITS",
    "Account",
    "Bill",
    "By",
    "Charge",
    "Group",
    "Interval",
    "Key",
    "Measurement",
    "Need",
    "Plan",
    "PlanError",
    "Prices",
    "PricesFile",
    "ProcessUse",
    "Report",
    "Work",
    "account_of",
    "billed",
    "charges",
    "of_account",
    "of_file",
    "plan",
    "report",
]
