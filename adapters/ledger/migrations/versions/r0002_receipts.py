"""A receipt stays unique when the check that it was given for is purged: the audit remembers it.

revision: r0002
"""

from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

GIVEN = (
    "NOT EXISTS (SELECT 1 FROM checks WHERE id = NEW.id) AND EXISTS "
    "(SELECT 1 FROM audit_leaf WHERE receipt = NEW.receipt AND check_id <> NEW.id)"
)
"""A new check whose receipt another one has, or had."""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER checks_receipt_is_new BEFORE INSERT ON checks WHEN {GIVEN} "
            "BEGIN SELECT RAISE(ABORT, 'this receipt was given before'); END"
        )
    else:
        op.execute(
            "CREATE FUNCTION checks_receipt_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF {GIVEN} THEN RAISE unique_violation "
            "USING MESSAGE = 'this receipt was given before'; END IF; RETURN NEW; END $$"
        )
        op.execute(
            "CREATE TRIGGER checks_receipt_is_new BEFORE INSERT ON checks "
            "FOR EACH ROW EXECUTE FUNCTION checks_receipt_refuse()"
        )
