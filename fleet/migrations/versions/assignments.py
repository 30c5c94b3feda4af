# SPDX-License-Identifier: Apache-2.0
"""What hosts may take: plans, locks, and what was published of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make their tables."""
    op.create_table(
        "plans",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=280), nullable=False),
        sa.Column("allow", sa.Text(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "locks",
        sa.Column("host", sa.String(length=36), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("author", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "assigned",
        sa.Column("host", sa.String(length=36), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["hosts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("host"),
    )
