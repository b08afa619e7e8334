"""Migrations of the records' schema, by Alembic.

Each may only add what the version before does not miss: tables, and columns that have a default. It ends with `schema_info`: its
own number, and as `minimum` the oldest version of the code that can go on with it; what contracts the schema raises it, a version
later.
"""
