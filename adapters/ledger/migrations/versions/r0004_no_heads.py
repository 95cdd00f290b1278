"""Signed heads lie in a file of their own, and in anchors: a table of them was never written.

revision: r0004
"""

from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("heads")
