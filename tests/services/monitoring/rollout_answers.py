"""Simulated answers of both arms as events, counted by the real counter."""

import math
from dataclasses import dataclass, field

import numpy as np

from headrace.columns import Batch, Column, DType, Ragged, Rows
from headrace.events import EventGroup, GroupHeader
from headrace.hop.errors import Code, Reason
from headrace.releases import Release
from headrace.releases.document import LIVE
from services.monitoring.guards.answers import Answers
from services.monitoring.guards.counter import AnswerCounter, Wanted
from services.monitoring.guards.guard import Facts

SEGMENTS = {"kind": tuple(range(10))}
TENANTS = [f"tenant-{i}" for i in range(12)]
# Of tenants: a tenth of the rows is the first one's.
_WEIGHTS = np.array([0.1, 0.3, 0.2, *[0.4 / 9] * 9])
_BATCH = 8


@dataclass(frozen=True)
class Outputs:
    """What the arms answer, and what is wrong with the canary: shares of rows that are NaN, null or −5,000; `shift`: of scores,
    in standard deviations; `flipped`: of labels, which are 1 for three tenths; in the segments `only`; `slow_s`: for the first
    tenant. `heavy`: scores have heavy tails; `season`: how much all scores swing; `dear`: a row costs so many times as much."""

    heavy: bool = False
    season: float = 0.0
    nan: float = 0.0
    null: float = 0.0
    far: float = 0.0
    shift: float = 0.0
    flipped: bool = False
    only: tuple[int, ...] = SEGMENTS["kind"]
    slow_s: float = 0.0
    dear: float = 1.0


def good_answers(release: int, live: int = 30_000, canary: int = 5000, arm: str = "candidate") -> Facts:
    """So many units of both arms under a release, of which none is bad."""
    rows = {LIVE: live, arm: canary}
    return Facts({(release, a): Answers(rows=n, bad=np.array([[n, 0]] * 3)) for a, n in rows.items()})


@dataclass
class Answering:
    """`keys`: sticky assignment over so many, each with a level of its own."""

    outputs: Outputs
    seed: int
    keys: int = 0
    counter: AnswerCounter = field(default_factory=AnswerCounter)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 7])
        self.levels = self.rng.normal(size=self.keys)

    def facts(self, release: Release, arm: str, now: float) -> Facts:
        """What was counted since the last call."""
        rollout, ranges = release.rollout, {"score": (-1000.0, 1000.0)}
        if self.outputs.heavy:
            ranges = {}
        wanted = Wanted(rollout.since, (LIVE, arm), bool(self.keys), ranges, SEGMENTS)
        return Facts(self.counter.taken("p", wanted, now))

    def answer(
        self,
        release: int,
        arm: str,
        rows: int,
        keys: np.ndarray | None,
        errors: float,
        extra_s: float,
        now: float,
    ) -> None:
        """So many rows of one second."""
        if not rows:
            return
        out, rng, bad = self.outputs, self.rng, arm != LIVE
        kind, tenant = rng.integers(0, 10, rows), rng.choice(len(TENANTS), rows, p=_WEIGHTS)
        hit = bad & np.isin(kind, out.only)
        score = rng.standard_t(1.5, rows) * 3 if out.heavy else rng.normal(size=rows)
        if keys is not None:
            score = self.levels[keys] + 0.3 * score
        score = score + out.season * math.sin(now / 40) + out.shift * hit
        label = (rng.random(rows) < np.where(hit & out.flipped, 0.7, 0.3)).astype(np.int64)
        score[hit & (rng.random(rows) < out.nan)] = np.nan
        score[hit & (rng.random(rows) < out.far)] = -5000.0
        valid = ~(hit & (rng.random(rows) < out.null))
        batch = np.arange(rows) // _BATCH
        times = 0.02 * rng.lognormal(sigma=0.5, size=batch[-1] + 1)[batch] + extra_s
        times = times + out.slow_s * (bad & (tenant == 0))
        # Who is slow has a batch of its own.
        batch = batch * 2 + (bad & (tenant == 0) & (out.slow_s > 0))
        busy = (200 + 800 / np.bincount(batch)[batch]) * rng.lognormal(sigma=0.2, size=batch.max() + 1)[batch]
        failed = rng.random(rows) < errors
        columns = [
            Column("@time_us", DType.INT64, int(now * 1e6) + batch * 1000),
            Column("@row", DType.UINT32, np.zeros(rows, np.uint32)),
            Column("@code", DType.UINT8, np.where(failed, int(Code.INTERNAL), 0).astype(np.uint8)),
            Column(
                "@reason", DType.UINT16, np.where(failed, int(Reason.REASON_UNSPECIFIED), 0).astype(np.uint16)
            ),
            Column("@latency_us", DType.INT64, (times * 1e6).astype(np.int64)),
            Column("@busy_us", DType.INT64, (busy * (out.dear if bad else 1)).astype(np.int64)),
            Column.of("kind", kind),
            Column("score", DType.FLOAT64, score, (), valid & ~failed),
            Column("label", DType.INT64, label, (), ~failed),
        ]
        if keys is not None:
            words = np.stack(
                [keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)] * 2, axis=1
            )
            offsets = np.arange(0, 16 * rows + 1, 16, dtype=np.uint32)
            columns.append(Column("@key", DType.BYTES, Ragged(offsets, words.tobytes())))
        header = GroupHeader("p", 1, "f" * 64, arm, release, inputs=("kind",), outputs=("score", "label"))
        ids = [""] * rows
        of = Rows(ids, [TENANTS[i] for i in tenant.tolist()], [0] * rows, [0.0] * rows, ids)
        self.counter.observe_group(EventGroup(header, Batch.of(of, columns)), now)
