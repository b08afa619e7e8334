"""`headrace deliver scan`: known vulnerabilities of what a lock file or an SBOM names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from headrace.cli.commands.delivery.options import Ignored, refusing
from headrace.cli.console import fail, out
from headrace.delivery import advisories as osv

Files = Annotated[
    list[Path],
    typer.Argument(help="Lock files (name==version) or SBOMs (CycloneDX, SPDX; JSON).", exists=True),
]
Known = Annotated[
    Path,
    typer.Option(
        "--advisories",
        help="Security advisories as OSV has them: a JSON file, or a folder of them.",
        exists=True,
    ),
]


@refusing
def scan(files: Files, advisories: Known, ignore: Ignored = None) -> None:
    """Compare packages with advisories. Exit code 1 if one is affected."""
    if affected := found(files, advisories, ignore or ()):
        fail(
            f"{affected} vulnerabilities; update what is named, or accept one by --ignore ID with a reason in your pipeline"
        )


def found(files: Sequence[Path], advisories: Path, ignored: Sequence[str]) -> int:
    """Prints the vulnerabilities and returns their number. Raises DeliveryError, OSError."""
    known = osv.advisories(advisories)
    named = [package for file in files for package in osv.packages(file)]
    findings = osv.scan(named, known, ignored)
    for finding in findings:
        package, mend = finding.package, ", ".join(finding.fixed) or "no version yet"
        out.print(
            f"[red]{escape(package.name)} {escape(package.version)}[/] ({package.where}): {escape(finding.advisory)} "
            f"{escape(finding.summary)} → {escape(mend)}",
            soft_wrap=True,
        )
    out.print(f"{len(named)} packages, {len(known)} advisories, {len(findings)} vulnerabilities")
    return len(findings)
