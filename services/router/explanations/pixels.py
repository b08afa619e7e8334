"""One explanation of an image: it is decoded once; then the stages behind run on it with each patch blank in turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column
from headrace.explanations import ExplanationError, occluded
from services.router.explanations.pieces import Explained, Pacing, PieceSize, Row, output_of, run_piece
from services.router.explanations.subject import Pixels, Subject


async def explain_pixels(subject: Subject, pixels: Pixels, row: Row, pacing: Pacing) -> Explained:
    """Explains the row's image; its other columns stay as they are. Raises ExplanationError, and Fault if a stage fails."""
    missing = [name for name in subject.reads if name not in row.columns]
    if missing:
        raise ExplanationError("columns", f"the column {missing[0]!r} is not known", column=missing[0])
    image = await _decoded(subject, pixels, row, _own(pacing))
    pacing = _own(pacing)
    masks, found = pixels.patches.masks(), list[NDArray[np.float64]]()
    start = 0
    while start < len(masks):
        piece = masks[start : start + pacing.size.rows]
        start += len(piece)
        columns = [
            row.columns[name].take(np.zeros(len(piece), np.intp))
            for name in subject.route_reads
            if name != pixels.column
        ]
        columns.append(Column.of(pixels.column, pixels.patches.images(image, piece)))
        turn = pacing.turn()
        run = await run_piece(subject, subject.route, [row] * len(piece), columns, turn, pacing)
        found.append(output_of(run, subject.output))
        await pacing.rest(turn)
    # The image is decoded in one row more.
    return Explained(subject, row, occluded(np.concatenate(found)), len(masks) + 1)


async def _decoded(subject: Subject, pixels: Pixels, row: Row, pacing: Pacing) -> NDArray[np.uint8]:
    turn = pacing.turn()
    columns = [row.columns[name] for name in pixels.reads]
    run = await run_piece(subject, pixels.route, [row], columns, turn, pacing)
    await pacing.rest(turn)
    image: NDArray[np.uint8] = run.columns[pixels.column].array[0]
    return image


def _own(pacing: Pacing) -> Pacing:
    """Begins with one row at once: images are slow, and how slow says nothing of other rows."""
    return replace(pacing, size=PieceSize(pacing.size.longest_us, rows=1, fewest=1))
