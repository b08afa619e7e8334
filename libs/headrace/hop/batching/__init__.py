"""Calls that wait at the same time leave as one."""
