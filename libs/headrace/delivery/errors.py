"""What can go wrong in a delivery."""

from __future__ import annotations


class DeliveryError(Exception):
    """The text says what is refused or failed, and what to do. Nothing was changed, unless the text says so."""
