"""Builds replies: the columns of a batch."""
