"""Builds replies: columns of a batch, or Feast's own messages."""
