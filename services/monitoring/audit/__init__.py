"""Keeps the audit log of this home: takes up the journals, signs checkpoints, asks witnesses (libs/headrace/audit)."""
