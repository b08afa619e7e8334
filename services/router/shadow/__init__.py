"""Shadows: a copy of some requests runs on another arm after the answer, with no effect, and is compared with the answer."""
