"""What all tests share: hypothesis measures no time, since the machine's speed is not what a property is about."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")
