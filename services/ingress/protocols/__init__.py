"""The protocols of the door: bytes and headers → a servicer call → bytes and headers."""
