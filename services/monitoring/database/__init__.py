"""The database `facts`: what happened, in one file of SQLite or one PostgreSQL. Its tables live with their concerns."""
