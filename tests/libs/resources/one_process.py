"""One process that takes resources over, with a clock that tests move, and what survives its crash."""

from dataclasses import dataclass, field

from headrace.resources.apply import Applier, Compile, Limits, View
from headrace.resources.snapshot import Key, Resource
from headrace.resources.trials import Trials
from tests.libs.resources.control_history import History

LIMITS = Limits(proof_s=5, patience_s=0.05, compile_s=10)


@dataclass
class Memory:
    """What survives a crash of the process: as `Disk`."""

    trials: bytes = Trials().to_bytes()
    compiled: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    full: bool = False

    def write_trials(self, trials: Trials) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.trials = trials.to_bytes()

    def write_compiled(self, hashes: list[str]) -> None:
        self.compiled = list(hashes)

    def resource(self, kind: str, name: str, sha256: str, version: int) -> Resource | None:
        content = self.contents.get(sha256)
        return None if content is None else Resource.of(kind, name, content, version)

    def crashed(self) -> "Memory":
        return Memory(self.trials, list(self.compiled), self.contents)

    def recovered(self) -> Trials:
        trials = Trials.recovered(Trials.from_bytes(self.trials), self.compiled)
        self.trials, self.compiled = trials.to_bytes(), []
        return trials


class Process:
    """One process. `now`: its clock."""

    def __init__(self, memory: Memory | None = None, **compilers: Compile) -> None:
        self.now = 0.0
        self.memory = memory or Memory()
        self.views: list[View] = []
        self.applier = Applier(
            compilers, self.views.append, self.memory, self.memory.recovered(), lambda: self.now, LIMITS
        )

    def apply(self, history: History) -> View:
        self.applier.apply(history.part())
        self.memory.contents |= {r.sha256.hex(): r.content for r in history.snapshot.resources.values()}
        return self.view

    def take(self, history: History, *written: Resource, deleted: tuple[Key, ...] = ()) -> View:
        """Changes the history, and applies it."""
        history.change(*written, deleted=deleted)
        return self.apply(history)

    def crashed(self, history: History) -> "Process":
        """The process after this one."""
        after = Process(self.memory.crashed())
        after.apply(history)
        return after

    @property
    def view(self) -> View:
        return self.views[-1]

    def after(self, seconds: float) -> View:
        self.now += seconds
        self.applier.tick()
        return self.view

    def keys(self) -> dict[str, str]:
        resources = self.view.snapshot.resources
        return {name: resources["key", name].content.decode() for name in self.view.snapshot.names("key")}

    def problems(self) -> dict[str, str]:
        return {name: r.problem for (_, name), r in self.view.rejected.items()}


def began(*written: Resource, **compilers: Compile) -> tuple[Process, History]:
    """A process that has taken these over."""
    process, history = Process(None, **compilers), History()
    process.take(history, *written)
    return process, history
