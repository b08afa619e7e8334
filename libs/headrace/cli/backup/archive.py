"""The file of a backup: a tar, whose last member is a list of all others with their SHA-256.

Tar, so that it can be looked into without us; not compressed, as models hardly shrink.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from headrace.cli.backup import contents
from headrace.cli.diagnosis import earlier_homes
from headrace.cli.installation import layout as layouts
from headrace.cli.installation.layout import Layout
from headrace.hop.config import ConfigError

FORMAT = 1
LIST = "BACKUP.json"
_LIST_BYTES = 64 << 20
_BLOCK = 1 << 20
# Lines are appended to these while they are copied; what is behind the last newline is the beginning of a line.
_LINES = ".jsonl"
Told = Callable[[int, int], None]


class BackupError(Exception):
    """The text says what is wrong and what to do."""


class Kept(NamedTuple):
    """A file of a backup. `mode`: its permissions."""

    size: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files`: by path within the home. `made`: ISO 8601. `version`: of headrace."""

    made: str
    version: str
    files: Mapping[str, Kept]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(kept.size for kept in self.files.values())


def write(layout: Layout, target: Path, *, made: str, version: str, told: Told) -> Manifest:
    """Writes a backup; readable for its owner alone, as it holds keys. It is not encrypted: the place that it lies in is, or the
    file that somebody makes of it. `told`: files done, files in all.

    The system may run. Every file is one that was there at some moment: documents are replaced whole, databases are copied by
    SQLite, logs are cut behind their last whole line. Raises BackupError; then there is no new file.
    """
    if target.exists():
        raise BackupError(f"{target} exists; name another file, or remove it")
    _refuse_earlier(layout)
    with tempfile.TemporaryDirectory(prefix=".headrace-backup-", dir=_folder(target)) as folder:
        whole = Path(folder) / "backup.tar"
        try:
            with os.fdopen(os.open(whole, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                with tarfile.open(fileobj=file, mode="w") as tar:
                    manifest = Manifest(made, version, _add_all(tar, layout, told))
                    _add(tar, LIST, 0o600, io.BytesIO(text := _text(manifest)), len(text))
                file.flush()
                os.fsync(file.fileno())
            whole.replace(target)
        except OSError as error:
            raise BackupError(f"{target} can't be written: {error.strerror or error}") from error
    return manifest


def restore(source: Path, home: Path, told: Told) -> Manifest:
    """Makes a home of a backup. `told`: as of `write`. Raises BackupError; then the home is as it was: absent or empty."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise BackupError(f"{home} is not empty; restore into a folder that does not exist yet (--home)")
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=_folder(home)) as folder:
        whole = Path(folder) / "home"
        whole.mkdir(mode=0o700)
        try:
            with tarfile.open(source, "r:") as tar:
                manifest = _take_all(tar, whole, source, told)
        except (tarfile.TarError, OSError, EOFError) as error:
            reason = "it is no backup, or is cut off"
            if isinstance(error, OSError) and error.strerror:
                reason = error.strerror
            raise BackupError(f"{source} can't be restored: {reason}") from error
        _refuse_earlier(layouts.of(whole))
        records = layouts.of(whole).records
        if records.exists():
            # Control begins a new epoch with it: processes may have gone further since the backup.
            (records.parent / "restored").write_text(f"backup of {manifest.made}; {secrets.token_hex(8)}")
        if home.exists():
            home.rmdir()
        whole.replace(home)
    return manifest


def _add_all(tar: tarfile.TarFile, layout: Layout, told: Told) -> dict[str, Kept]:
    names = list(contents.files(layout))
    found: dict[str, Kept] = {}
    for number, name in enumerate(names, 1):
        source = layout.home / name
        try:
            mode = source.stat().st_mode & 0o777
            with contents.stable(source) as path, path.open("rb") as file:
                size = _whole_lines(file) if source.suffix == _LINES else path.stat().st_size
                found[name.as_posix()] = Kept(size, _add(tar, name.as_posix(), mode, file, size), mode)
        except FileNotFoundError:
            continue  # removed meanwhile, as an old release or segment may be
        except contents.DatabaseError as error:
            raise BackupError(f"{source}: {error}") from error
        told(number, len(names))
    return found


def _refuse_earlier(layout: Layout) -> None:
    try:
        earlier_homes.refuse(layout)
    except ConfigError as error:
        raise BackupError(str(error)) from error


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.sha256.update(block)
        return block


def _add(tar: tarfile.TarFile, name: str, mode: int, file: IO[bytes], size: int) -> str:
    """Adds `size` bytes of a file; returns their SHA-256."""
    member, hashed = tarfile.TarInfo(name), _Hashed(file)
    member.size, member.mode = size, mode
    tar.addfile(member, cast("IO[bytes]", hashed))
    return hashed.sha256.hexdigest()


def _whole_lines(file: IO[bytes]) -> int:
    """Bytes up to the last newline; the file is at its start again."""
    end, found = file.seek(0, os.SEEK_END), 0
    while end and not found:
        start = max(end - _BLOCK, 0)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        found, end = (start + at + 1 if at >= 0 else 0), start
    file.seek(0)
    return found


def _text(manifest: Manifest) -> bytes:
    files = {name: list(kept) for name, kept in manifest.files.items()}
    told = {"format": FORMAT, "made": manifest.made, "version": manifest.version, "files": files}
    return json.dumps(told).encode()


def _take_all(tar: tarfile.TarFile, home: Path, source: Path, told: Told) -> Manifest:
    """Takes the files, then compares them with the list: whatever else is in the tar is refused."""
    found: dict[str, Kept] = {}
    while (member := tar.next()) is not None and member.name != LIST:
        if not member.isfile() or not _safe(member.name) or member.name in found:
            raise BackupError(f"{source}: {member.name!r} is not of a backup; it was altered")
        found[member.name] = _take(tar, member, home / member.name)
        told(len(found), 0)
    manifest = _manifest(tar, member, source)
    if tar.next() is not None:
        raise BackupError(f"{source} has more behind its list of files; it was altered")
    for name in found.keys() | manifest.files.keys():
        if name not in found:
            raise BackupError(f"{source} lacks {name}; it was altered")
        if found[name] != manifest.files.get(name):
            raise BackupError(
                f"{source}: {name} is not what was backed up; the file is damaged or was altered"
            )
    return manifest


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> Kept:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    hashed, mode = _Hashed(file), member.mode & 0o777
    with target.open("xb") as copy:
        while block := hashed.read(_BLOCK):
            copy.write(block)
    target.chmod(mode)
    return Kept(member.size, hashed.sha256.hexdigest(), mode)


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo | None, source: Path) -> Manifest:
    file = tar.extractfile(member) if member is not None and member.isfile() else None
    if member is None or file is None or member.size > _LIST_BYTES:
        raise BackupError(f"{source} is no backup of headrace, or is cut off (it does not end with {LIST})")
    try:
        found = json.load(file)
        number, version = found["format"], str(found["version"])
        if number == FORMAT:
            files = {str(name): _kept(kept) for name, kept in found["files"].items()}
            return Manifest(str(found["made"]), version, files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{source}: its {LIST} can't be read") from error
    raise BackupError(
        f"{source} has format {number!r}, this headrace knows format {FORMAT}; restore it with headrace {version}"
    )


def _kept(found: Any) -> Kept:
    size, digest, mode = found
    return Kept(int(size), str(digest), int(mode))


def _safe(name: str) -> bool:
    """Whether it lies within a home, and not in a place that no backup holds."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] != ()
    return inside and path.parts[0] not in contents.LEFT_OUT


def _folder(path: Path) -> Path:
    """The folder beside which files are made, so that the last step is a renaming. Raises BackupError."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise BackupError(f"there is no folder {folder}; make it first")
    return folder
