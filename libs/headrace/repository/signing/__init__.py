"""Signatures over bytes, the keys that make them, and whose are believed."""
