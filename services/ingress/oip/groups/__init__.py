"""Requests that differ in little are recognized by their bytes, and computed and answered together."""
