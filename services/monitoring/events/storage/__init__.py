"""Segments of events and their index."""
