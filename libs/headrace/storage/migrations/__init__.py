"""Alembic's entry, one for the migrations of all databases."""
