"""A file of keys for tests: taken away, put back, replaced by another's."""

from pathlib import Path

from headrace.encryption import DataKeys, Sealer
from headrace.encryption.kms.file_kms import FileKms, make


class Keys:
    """A file of keys. `now`: what data keys take for the time, in seconds."""

    def __init__(self, folder: Path, name: str = "encryption.keys") -> None:
        self.file = folder / name
        self._hidden = folder / f"{name}.hidden"
        self.kms = FileKms(self.file)
        self.now = 0.0
        make(self.file)

    def sealer(self) -> Sealer:
        """As a new process has it: it has opened nothing yet."""
        return Sealer(DataKeys(FileKms(self.file), 300, 1000, lambda: self.now))

    def take_away(self) -> None:
        self.file.rename(self._hidden)

    def replace(self) -> None:
        """By keys of another installation, with the same names."""
        self.take_away()
        make(self.file)

    def put_back(self) -> None:
        self._hidden.rename(self.file)
