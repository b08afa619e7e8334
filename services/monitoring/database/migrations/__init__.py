"""Migrations of the schema of `facts`, by the rules of `headrace.catalog.migrations`."""
