"""Backups of an installation: one file with all that can't be made again, and what restores it."""
