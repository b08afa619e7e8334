"""A signed repository to attack."""

from dataclasses import dataclass
from pathlib import Path

from headrace.columns import DType
from headrace.repository import AccessLog, Metadata, Repository, TensorSpec, Trust, publish
from headrace.repository.signing import key_pair

X = TensorSpec("input", DType.FLOAT32, (24,))
Y = TensorSpec("probabilities", DType.FLOAT32, (2,))
CONTENT = b"\x08\x01 not really a model"
SAMPLES = b"samples for a parity check"


@dataclass(frozen=True)
class Signed:
    """`root`: the repository; `private`, `public`: the pair it is signed with; `log`: the reader's access log."""

    root: Path
    private: Path
    public: Path
    log: Path

    def put(
        self, version: str = "1", name: str = "light", content: bytes = CONTENT, **more: object
    ) -> Metadata:
        """Publishes a signed version."""
        about: dict[str, object] = {"inputs": [X], "outputs": [Y], "key": self.private, **more}
        return publish(self.root, name, version, content, **about)  # type: ignore[arg-type]  # tests hand on what they mean

    def reader(self, *, accept_unsigned: bool = False, memory: Path | None = None) -> Repository:
        """Reads as a service that trusts the pair's public half does."""
        trust = Trust((self.public,), accept_unsigned, memory)
        return Repository(self.root, trust=trust, log=AccessLog(self.log, "test"))


def signed(folder: Path) -> Signed:
    made = Signed(folder / "models", folder / "models.key", folder / "models.pub", folder / "access.jsonl")
    key_pair.generate(made.private, made.public)
    return made
