"""Counts of objectives as series for promtool, and at which levels their budgets burn."""

from tests.libs.slo.promtool_case import Expected, case

BURN = "HeadraceErrorBudgetBurn"


def counted(
    target: float, requests: str, bad: str, steps: int, objective: str = "availability"
) -> dict[str, str]:
    """The door's series of one objective."""
    labels = f'pipeline="small",objective="{objective}"'
    return {
        f"headrace_objective_requests_total{{{labels}}}": requests,
        f"headrace_objective_bad_total{{{labels}}}": bad,
        f'headrace_objective_target{{{labels},period_s="2592000"}}': f"{target}x{steps}",
    }


def burns(**instants: list[str]) -> Expected:
    """`m90=[…]`: the levels that fire after 90 minutes."""
    return {BURN: {f"{at[1:]}{at[0]}": levels for at, levels in instants.items()}}


_ALL, _SLOW = ["1.1x", "14.4x", "1x", "2x", "3x", "6x"], ["1.1x", "1x", "2x", "3x"]
# Two hours of them.
BURNS = [
    case(
        "9 errors in a service that nobody uses are too few for any level",
        counted(0.999, "0 1+1x8 9x170", "0 1+1x8 9x170", 180),
        burns(m12=[], m90=[]),
    ),
    case(
        "20 % slow answers",
        {
            **counted(0.99, "0+600x120", "0+120x120", 120, "latency"),
            **counted(0.999, "0+600x120", "0x120", 120),
        },
        burns(m100=_ALL),
    ),
    case("all fast", counted(0.99, "0+600x120", "0x120", 120, "latency"), burns(m100=[])),
    case(
        "half of the requests of a new pipeline fail from its first on; then it is gone",
        counted(0.999, "_x20 0+100x30 _x60", "_x20 0+50x30 _x60", 50),
        burns(m15=[], m30=_ALL, m80=[]),
    ),
]
# The real windows.
DAYS_OF_BURNS = [
    case(
        "2 % errors for 90 minutes after a good day: a page at once, and none any more soon after it ended",
        counted(0.999, "0+6000x1440 8646120+6120x89 9196800+6000x500", "0x1440 120+120x89 10800x500", 2100),
        burns(m1440=[], m1525=["1.1x", "14.4x", "1x", "2x"], m1545=["1.1x", "1x", "2x"], h32=[]),
    ),
    case(
        "0.4 % errors for days: the slow levels, but never the fast ones",
        counted(0.999, "0+30000x900", "0+120x900", 900),
        burns(h1=_SLOW, h72=_SLOW),
        interval="5m",
    ),
    case(
        "0.12 % errors: only the slowest",
        counted(0.999, "0+100000x900", "0+120x900", 900),
        burns(h74=["1.1x", "1x"]),
        interval="5m",
    ),
]
