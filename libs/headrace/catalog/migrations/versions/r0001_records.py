"""The first schema: records, their audit, leases."""

import sqlalchemy as sa
from alembic import op

from headrace.storage.schema import NUMBER, TEXT

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "schema_info",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("minimum", sa.Integer, nullable=False),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("change_id", TEXT, nullable=False, unique=True),
        sa.Column("line", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "epochs",
        sa.Column("epoch", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", NUMBER, nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("version", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", NUMBER, nullable=False, index=True),
        sa.Column("content", sa.LargeBinary),
    )
    op.create_table(
        "leases",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    info = sa.table("schema_info", sa.column("version", sa.Integer), sa.column("minimum", sa.Integer))
    op.execute(info.insert().values(version=1, minimum=1))
