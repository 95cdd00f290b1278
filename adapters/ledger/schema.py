"""The tables of the ledger, for SQLite and PostgreSQL alike.

`audit_leaf` is append-only (triggers refuse UPDATE and DELETE, see the first migration); what is
personal lies in `audit_content`, `checks`, `outbox` and `kept`, and is purged (purging.py).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

REVISION = "r0004"
"""The newest migration: a ledger that has it needs none."""

metadata = MetaData()

audit_leaf = Table(
    "audit_leaf",
    metadata,
    Column("log", String(32), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),
    Column("check_id", String(64), nullable=False),
    Column("receipt", String(16), nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_leaf_check", "check_id"),
    Index("ix_audit_leaf_receipt", "receipt"),
)

audit_content = Table(
    "audit_content",
    metadata,
    Column("log", String(32), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("salt", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

checks = Table(
    "checks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("short", String(8), nullable=False),
    Column("receipt", String(16), nullable=False, unique=True),
    Column("terminal", String(8), nullable=False),
    Column("dedupe", String(80), nullable=True, unique=True),
    Column("opened_at_ms", BigInteger, nullable=False, index=True),
    Column("state", LargeBinary, nullable=True),
    Column("open", Boolean, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("result", LargeBinary, nullable=True),
    Index("ix_checks_terminal", "terminal", "opened_at_ms"),
    Index("ix_checks_open", "open"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("check_id", String(64), nullable=False),
    Column("terminal", String(8), nullable=False),
    Column("holder", String(80), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("queued_at_ms", BigInteger, nullable=False),
    Column("stale_at_ms", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False, server_default="answer"),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("open", Boolean, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),
)

kept = Table(
    "kept",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=True),
    Column("personal", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What desks keep over a restart (ports.KEPT); each knows its own `body`."""

meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", String(200), nullable=False),
)
