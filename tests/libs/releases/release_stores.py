"""Stores of releases to test, and releases to put into them."""

from typing import Any

from headrace.pipeline import content_hash
from headrace.releases import Release
from headrace.releases.document import validated

TEXT = "pipeline: flights\n"
REVISION = str(content_hash(TEXT))
OTHER = "0" * 64


def release(number: int = 1, pipeline: str = "flights", **changes: Any) -> Release:
    """A release with one arm, of the stored document."""
    values = {
        "pipeline": pipeline,
        "number": number,
        "parent": number - 1,
        "author": "test",
        "arms": {"live": {"version": 1, "revision": REVISION, "models": {"m": "1"}}},
        **changes,
    }
    return validated(pipeline, values)
