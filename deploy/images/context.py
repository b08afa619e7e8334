"""What the Containerfile copies: the base, our code, and for each service its packages and its list of what is inside."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.images import locks, sbom
from deploy.images.debian import Package, packages
from services.ingress.lane import library

# Of everything in an image: a constant, so that the same content has the same digest whenever it is built.
EPOCH = 1_767_225_600  # 2026-01-01
_BIN = Path(sys.executable).parent
_BASE = Path(__file__).parent / "base.sh"
# Wheels of these run on Debian 13 (glibc 2.41).
_PLATFORM = "manylinux_2_40"
# Tests of packages, headers, types for checkers, pages of Feast's own server, and scripts, which name this machine's Python.
_UNUSED = re.compile(
    r"^bin/|(^|/)(tests|include)/|\.(pyi|pyx|pxd|pxi|h|hpp|c|cpp|a|lib)$|^feast/ui/|^numpy/f2py/"
    # Pillow's decoder of AVIF and its fonts: our own look at headers lets only JPEG, PNG and WebP pass.
    r"|^PIL/_(avif|imagingft)\.|^pillow\.libs/lib(avif|harfbuzz|freetype)-"
)
# What one service alone has no use for: monitoring calls no Arrow server (Feast imports its client).
_UNUSED_BY = {"monitoring": re.compile(r"^pyarrow/(_flight\.|libarrow_(python_)?flight|flight\.py$)")}
_OF_UV = {".lock", "uv_cache.json"}
# Built with debug information, nine tenths of it. What auditwheel has patched (NumPy, Pillow) is left as it is.
_STRIPPED = ("uvloop/loop.*.so",)


class ImageError(RuntimeError):
    """An image cannot be built; the text says what to do."""


def run(*command: str | Path, **environment: str) -> str:
    """What the command printed. Raises ImageError with the end of what it said if it fails or is not there."""
    name = Path(command[0]).name
    inherited = os.environ  # noqa: TID251 - a build has the proxies and certificates of whoever builds
    try:
        done = subprocess.run(  # noqa: S603 - commands of this folder
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**inherited, **environment},
            cwd=locks.ROOT,
        )
    except FileNotFoundError:
        raise ImageError(f"{name} is missing: apt-get install podman runc mmdebstrap binutils") from None
    if done.returncode:
        raise ImageError(f"{name} failed ({done.returncode}):\n{done.stderr[-2000:] or done.stdout[-2000:]}")
    return done.stdout


def base(folder: Path) -> list[Package]:
    """Makes the base; the packages in it."""
    made = folder / "base.tar"
    run(_BASE, made, SOURCE_DATE_EPOCH=str(EPOCH))
    return packages(made)


def code(folder: Path) -> None:
    """Our wheel, unpacked, and the ingress' compiled lane, which is no part of a wheel for all machines."""
    wheels = folder.parent / "wheel"
    for kept in (wheels, folder / "code"):
        shutil.rmtree(kept, ignore_errors=True)
    run(
        _BIN / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", wheels, SOURCE_DATE_EPOCH=str(EPOCH)
    )
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "code")
    try:
        shutil.copy2(library.compile_lane(), folder / "code" / "services" / "ingress" / "lane")
    except library.LaneError as error:
        raise ImageError(f"the ingress' lane: {error}") from error
    readable(folder / "code")


def service(folder: Path, name: str, version: str, inside: list[Package]) -> None:
    """The packages of a service from its lock, and its SBOM."""
    own = emptied(folder / name)
    lock = locks.FOLDER / f"{name}.lock"
    install(own / "packages", lock)
    finish(own, name, version, list(locks.parsed(lock.read_text())), inside)


def emptied(folder: Path) -> Path:
    """The folder, without what an earlier build left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def finish(own: Path, name: str, version: str, packages: list[locks.Locked], inside: list[Package]) -> None:
    """Takes what is not used away from the packages that were installed in `own`, and lists what the image has."""
    trim(own / "packages", _UNUSED_BY.get(name))
    readable(own / "packages")
    bill = sbom.bill(name, version, packages, inside)
    listed = own / "sbom.cdx.json"
    listed.write_text(json.dumps(bill, indent=1) + "\n")
    listed.chmod(0o644)


def install(site: Path, lock: Path, *options: str | Path) -> None:
    """The wheels that the lock names, for the Python and the machine of the images. Raises ImageError."""
    run(
        *(_BIN / "uv", "pip", "install", "-q", "--python", _BIN / "python", "--no-deps", "--require-hashes"),
        *("--python-version", locks.PYTHON, "--python-platform", f"{os.uname().machine}-{_PLATFORM}"),
        *("--only-binary", ":all:", "--link-mode", "copy", "--target", site, "-r", lock, *options),
    )


def trim(site: Path, unused: re.Pattern[str] | None = None) -> None:
    """Takes away what no service uses, `unused` and debug information too, and has the lists of files (RECORD) say so."""
    for path in sorted(site.rglob("*"), reverse=True):
        name = path.relative_to(site).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif _UNUSED.search(name) or (unused and unused.search(name)) or path.name in _OF_UV:
            path.unlink()
    stripped = {path.relative_to(site).as_posix(): path for one in _STRIPPED for path in site.glob(one)}
    for path in stripped.values():
        run("strip", "--strip-unneeded", path)
    for record in site.glob("*.dist-info/RECORD"):
        rows = [row for row in csv.reader(record.read_text().splitlines()) if (site / row[0]).is_file()]
        rows = [_row(row[0], stripped[row[0]]) if row[0] in stripped else row for row in rows]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sorted(rows))
        record.write_text(text.getvalue())


def _row(name: str, path: Path) -> list[str]:
    """The line of a file in the list of a package's files."""
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [name, f"sha256={digest}", str(len(content))]


def readable(folder: Path) -> None:
    """Rights that do not depend on the umask of whoever builds, for a user who owns nothing."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
