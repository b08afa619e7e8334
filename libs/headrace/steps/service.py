"""A service that runs steps: finds the program of a call in the cache or compiles it, runs it, counts and logs. Preprocessing and
postprocessing are made of it, and differ in their contract alone."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, RowError, Timing
from headrace.columns.wire import Carrier, read_request, write_reply
from headrace.hop import config
from headrace.hop.call import Call
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.hop.metrics import Counter, Histogram
from headrace.hop.process.logs import some
from headrace.steps.errors import SpecError
from headrace.steps.program.compilation import compile_steps
from headrace.steps.program.program import Program, Result, run_batch
from headrace.steps.registry import Kind

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_SECONDS = (25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3e-3, 6e-3, 12e-3, 25e-3, 50e-3, 0.1, 0.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class StepMetrics:
    """`headrace_SERVICE_*`: rows, their errors, the time of runs, and values outside a vocabulary (a sign of data drift)."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        def name(what: str) -> str:
            return f"headrace_{service}_{what}"

        self._rows = Histogram(name("batch_rows"), "Rows per batch.", buckets=_ROWS, registry=registry)
        self._seconds = Histogram(
            name("run_seconds"), "Time of the steps for one batch.", buckets=_SECONDS, registry=registry
        )
        self._errors = Counter(
            name("row_errors"), "Rows without a result, by reason.", ["reason"], registry=registry
        )
        self._unseen = Counter(
            name("unseen_values"),
            "Values outside a step's vocabulary, by the column that they came in.",
            ["step", "column"],
            registry=registry,
        )

    def ran(self, rows: int, seconds: float, errors: Iterable[RowError]) -> None:
        """Counts one batch that was answered; it took `seconds`."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)
        for error in errors:
            self._errors.labels(reason_name(error.reason)).inc()

    def unseen(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Counts the values outside a vocabulary of one batch: (name of the step, column) → count."""
        for (step, column), count in counts.items():
            self._unseen.labels(step, column).inc(count)


# One broken step can fail every row; only the first failures of a batch are logged.
_LOGGED_FAILURES = 3
MAX_SPEC_BYTES = 1 << 20
# Compiled specifications in the cache; a pipeline revision has one per stage of steps.
_MAX_PROGRAMS = 256
# Rows × steps up to which the event loop computes itself: about 1 ms. More goes to a thread.
INLINE_WORK = 8192
# Threads for larger batches and for compiling.
_THREADS = 2


class ProgramCache:
    """The `limit` most recently used programs of one kind. `find` and `keep` belong to one thread; any may call `compile`."""

    def __init__(self, kind: Kind, limit: int) -> None:
        self._kind: Kind = kind
        self._limit = limit
        self._kept: OrderedDict[str, Program] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, sha256: str) -> Program | None:
        """The program of that specification; None if it is not in the cache."""
        program = self._kept.get(sha256)
        if program is not None:
            self._kept.move_to_end(sha256)
        return program

    def keep(self, sha256: str, program: Program) -> None:
        """Adds a program, and drops the least recently used one if there are too many."""
        self._kept[sha256] = program
        self._kept.move_to_end(sha256)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def compile(self, sha256: str, spec: bytes) -> Program:
        """The program of `spec`, which must have this SHA-256.

        Raises Fault FAILED_PRECONDITION with SPEC_UNKNOWN if `spec` is empty, else INVALID_ARGUMENT with what is wrong in it.
        """
        if not spec:
            message = "the steps of this hash are not known here; send the same call again with `spec`"
            raise Fault(Code.FAILED_PRECONDITION, Reason.REASON_SPEC_UNKNOWN, message)
        if len(spec) > MAX_SPEC_BYTES:
            raise _refused(f"the specification has {len(spec)} bytes; at most {MAX_SPEC_BYTES}")
        if hashlib.sha256(spec).hexdigest() != sha256:
            raise _refused("`spec` does not have the SHA-256 that `spec_sha256` says")
        try:
            values = json.loads(spec)
        # Nesting too deep for the parser is as much the caller's fault as a missing brace.
        except (ValueError, RecursionError):
            raise _refused("`spec` is not JSON") from None
        if not isinstance(values, dict):
            raise _refused("`spec` is not a JSON object")
        try:
            return compile_steps(self._kind, values)
        except SpecError as error:
            raise _refused(f"{error.path}: {error}", path=error.path) from error


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs specifications over batches.

    `inline_work`: rows × steps (`Program.weight`) up to which a program runs on the event loop, because a thread would cost
    more; larger batches, and compilation, go to `pool`. `clock`: monotonic seconds. `stage`: the name in timings.
    """

    programs: ProgramCache
    pool: Executor
    inline_work: int
    metrics: StepMetrics
    log: FilteringBoundLogger
    clock: Callable[[], float]
    stage: str

    async def run(self, sha256: str, spec: bytes, batch: Batch, received: float) -> Batch:
        """The outputs for the rows of `batch`, with a timing. `received`: when the call arrived, in monotonic seconds.

        Raises Fault as `ProgramCache.compile` and `Program.run`.
        """
        program = self.programs.find(sha256) or await self._compiled(sha256, spec)
        start = self.clock()
        count = len(batch.rows.request_ids)
        if count * program.weight <= self.inline_work:
            outputs, result = run_batch(program, batch, start)
        else:
            loop = asyncio.get_running_loop()
            outputs, result = await loop.run_in_executor(self.pool, run_batch, program, batch, start)
        end = self.clock()
        self.metrics.ran(count, end - start, outputs.errors.values())
        if result is not None:
            self._report(outputs, result)
        timing = Timing(self.stage, self.stage, _micros(start - received), _micros(end - start), count)
        return Batch(outputs.rows, outputs.columns, outputs.errors, (timing,))

    async def _compiled(self, sha256: str, spec: bytes) -> Program:
        # In a thread, also because this may import the module of a user's step.
        loop = asyncio.get_running_loop()
        program = await loop.run_in_executor(self.pool, self.programs.compile, sha256, spec)
        self.programs.keep(sha256, program)
        return program

    def _report(self, outputs: Batch, result: Result) -> None:
        self.metrics.unseen(result.unseen)
        if not result.failures:
            return
        ids = outputs.rows.request_ids
        broken = [ids[row] for row, e in outputs.errors.items() if e.reason == Reason.REASON_STEP_FAILED]
        for failure in result.failures[:_LOGGED_FAILURES]:
            self.log.error("step failed", step=failure.step, request_ids=some(broken), exc_info=failure.error)


def _micros(seconds: float) -> int:
    return max(int(seconds * 1e6), 0)


def _refused(message: str, **metadata: str) -> Fault:
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata=metadata)


class StepRequest(Carrier, Protocol):
    """The request of either contract: a batch, and the specification by its SHA-256 (hexadecimal), `spec` if need be."""

    @property
    def spec_sha256(self) -> str: ...

    @property
    def spec(self) -> bytes: ...


def step_service(
    kind: Kind, descriptor: ServiceDescriptor, make_reply: Callable[[], Carrier]
) -> Definition[config.ServiceSettings]:
    """The service named `kind`. `descriptor`: its contract, of one method; `make_reply`: makes an empty reply of that method."""
    (rpc,) = descriptor.methods

    @asynccontextmanager
    async def build(_settings: config.ServiceSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=kind)
        try:
            runner = StepRunner(
                ProgramCache(kind, _MAX_PROGRAMS),
                pool,
                INLINE_WORK,
                runtime.telemetry.once(_metrics_of(kind)),
                runtime.telemetry.log,
                time.monotonic,
                kind,
            )
            # hop finds the handler by the name of its RPC.
            servicer = SimpleNamespace(**{rpc.name: _handler(runner, make_reply)})
            yield [Service(descriptor, servicer, takes_payload=True)]
        finally:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    return Definition(kind, config.ServiceSettings, build)


def _handler(
    runner: StepRunner, make_reply: Callable[[], Carrier]
) -> Callable[[StepRequest, Call], Awaitable[Carrier]]:
    clock = runner.clock

    async def handle(request: StepRequest, call: Call) -> Carrier:
        received = clock()
        batch = read_request(request, call, received)
        outputs = await runner.run(request.spec_sha256, request.spec, batch, received)
        reply = make_reply()
        write_reply(reply, outputs, call, clock())
        return reply

    return handle


@cache
def _metrics_of(kind: Kind) -> Callable[[CollectorRegistry], StepMetrics]:
    # Cached, because a process has one set of metrics for each such function.
    return lambda registry: StepMetrics(registry, kind)
