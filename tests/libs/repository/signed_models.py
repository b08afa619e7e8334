"""A signed repository to attack."""

from dataclasses import dataclass
from pathlib import Path

from headrace.columns import DType
from headrace.repository import AccessLog, Metadata, ModelIndex, Repository, TensorSpec, Trust, publish
from headrace.repository.signing import key_pair

X = TensorSpec("input", DType.FLOAT32, (24,))
Y = TensorSpec("probabilities", DType.FLOAT32, (2,))
CONTENT = b"\x08\x01 not really a model"
SAMPLES = b"samples for a parity check"


def put(
    root: Path | str, name: str = "light", version: str = "1", content: bytes = CONTENT, **more: object
) -> Metadata:
    """Publishes a version, unsigned without a `key`."""
    about: dict[str, object] = {"inputs": [X], "outputs": [Y], **more}
    return publish(root, name, version, content, **about)  # type: ignore[arg-type]  # tests hand on what they mean


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
        return put(self.root, name, version, content, **{"key": self.private, **more})

    def reader(self, *listed: Metadata, accept_unsigned: bool = False) -> Repository:
        """Reads as a service that trusts the pair's public half does. `listed`: what the index has; absent: there is none."""
        index = indexes(*listed).get if listed else None
        trust = Trust((self.public,), accept_unsigned)
        return Repository(self.root, trust=trust, index=index, log=AccessLog(self.log, "test"))


def indexes(*listed: Metadata) -> dict[str, ModelIndex]:
    found: dict[str, ModelIndex] = {}
    for about in listed:
        index = found.get(about.name, ModelIndex(about.name))
        found[about.name] = index.with_version(about.version, about.digest())
    return found


def signed(folder: Path) -> Signed:
    made = Signed(folder / "models", folder / "models.key", folder / "models.pub", folder / "access.jsonl")
    key_pair.generate(made.private, made.public)
    return made
