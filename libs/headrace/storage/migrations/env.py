"""Alembic's entry: runs migrations in the transaction that is handed in."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
