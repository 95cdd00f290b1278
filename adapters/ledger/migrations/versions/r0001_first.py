"""The first shape of the ledger.

revision: r0001
"""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_leaf",
        sa.Column("log", sa.String(32), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("check_id", sa.String(64), nullable=False),
        sa.Column("receipt", sa.String(16), nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_leaf_check", "audit_leaf", ["check_id"])
    op.create_index("ix_audit_leaf_receipt", "audit_leaf", ["receipt"])
    op.create_table(
        "audit_content",
        sa.Column("log", sa.String(32), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_audit_content_at_ms", "audit_content", ["at_ms"])
    op.create_table(
        "checks",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("short", sa.String(8), nullable=False),
        sa.Column("receipt", sa.String(16), nullable=False),
        sa.Column("terminal", sa.String(8), nullable=False),
        sa.Column("dedupe", sa.String(80), nullable=True),
        sa.Column("opened_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=True),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("result", sa.LargeBinary, nullable=True),
        sa.UniqueConstraint("receipt"),
        sa.UniqueConstraint("dedupe"),
    )
    op.create_index("ix_checks_opened_at_ms", "checks", ["opened_at_ms"])
    op.create_index("ix_checks_terminal", "checks", ["terminal", "opened_at_ms"])
    op.create_index("ix_checks_open", "checks", ["open"])
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("check_id", sa.String(64), nullable=False),
        sa.Column("terminal", sa.String(8), nullable=False),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("queued_at_ms", sa.BigInteger, nullable=False),
        sa.Column("stale_at_ms", sa.BigInteger, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_alarms_open", "alarms", ["open"])
    op.create_table(
        "bookings",
        sa.Column("terminal", sa.String(8), primary_key=True),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_leaf_no_{verb.lower()} BEFORE {verb} ON audit_leaf "
                "BEGIN SELECT RAISE(ABORT, 'audit_leaf is append-only'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION audit_leaf_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit_leaf is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
            "ON audit_leaf FOR EACH STATEMENT EXECUTE FUNCTION audit_leaf_refuse()"
        )
