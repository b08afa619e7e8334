"""Databases of control and monitoring: one SQL for a file of SQLite and for PostgreSQL.

| file | what |
|---|---|
| `address.py` | where a database is, from a setting |
| `database.py` | `Database`: transactions that read and that write; retries |
| `sqlite_file.py` | a file of SQLite: one process, exclusive, durable |
| `postgres.py` | a PostgreSQL, also behind a pooler that lends a connection for one transaction |
| `schema.py` | the schema by Alembic: initialised, upgraded, newer |

The differences between the two are in `sqlite_file.py` and `postgres.py`, and nowhere else.
"""
