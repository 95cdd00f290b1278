"""The log: enumerated events with enumerated fields, so that nothing personal has a place in it.

One JSON object a line (structlog, msgspec renderer). What the table below does not list is left
out and counted. Libraries that log through the standard library are let in with their name, level
and exception class alone: their arguments hold addresses, topics and payloads.
"""

from __future__ import annotations

import datetime
import logging
import re
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import IO, Any, Unpack

import msgspec
import structlog

from gateway.log_words import LogEvent, LogFields
from gateway.ports import Meter

Record = MutableMapping[str, Any]

_CHECK = frozenset(
    {"check", "kind", "stage", "outcome", "cause", "elapsed_ms", "attempt", "reason", "state"}
)
_LINK = frozenset({"link", "kind", "state", "reason", "error", "attempt", "delay_ms"})
_BOOKING = frozenset({"link", "reason"})
_LEDGER = frozenset({"error", "reason", "check", "stage", "log", "seq", "count", "elapsed_ms"})
_ALARM = frozenset({"alarm", "rule", "priority", "state", "check", "link", "reason", "count"})
_LIFE = frozenset(
    {"version", "exit", "restored", "reason", "elapsed_ms", "port", "links", "open", "waiting"}
)

EVENTS: dict[str, frozenset[str]] = {
    "started": _LIFE,
    "ready": _LIFE,
    "stopping": _LIFE,
    "stopped": _LIFE,
    "link.up": _LINK,
    "link.down": _LINK,
    "link.state": _LINK,
    "frame.rejected": _LINK | {"type"},
    "check.opened": _CHECK,
    "check.refused": _CHECK,
    "check.stage": _CHECK,
    "check.done": _CHECK,
    "check.duplicate": _CHECK,
    "check.late": _CHECK,
    "check.cancelled": _CHECK,
    "check.restarted": _CHECK,
    "check.unreadable": _CHECK,
    "check.put_away": _CHECK,
    "delivery.sent": _CHECK | {"part", "bearer"},
    "delivery.delivered": _CHECK | {"part", "bearer"},
    "delivery.read": _CHECK | {"part", "bearer"},
    "delivery.failed": _CHECK | {"part", "bearer"},
    "delivery.stale": _CHECK | {"part", "bearer"},
    "emergency.raised": _ALARM | {"elapsed_ms"},
    "emergency.unrecorded": _ALARM | {"error"},
    "alarm.changed": _ALARM,
    "alarm.flood": _ALARM,
    "alarm.unrecorded": _ALARM | {"error"},
    "booking.on": _BOOKING,
    "booking.off": _BOOKING,
    "booking.refused": _BOOKING,
    "booking.unreadable": _BOOKING,
    "cert.expiry": frozenset({"cert", "state", "hours"}),
    "config.loaded": frozenset({"version", "restart_needed", "count"}),
    "policy.unsealed": frozenset({"version"}),
    "config.refused": frozenset({"finding", "count"}),
    "ledger.opened": _LEDGER | {"version"},
    "ledger.version": _LEDGER | {"version"},
    "ledger.behind": _LEDGER,
    "ledger.broken": _LEDGER,
    "ledger.unavailable": _LEDGER,
    "ledger.recovered": _LEDGER,
    "ledger.proof": _LEDGER,
    "ledger.purge": _LEDGER,
    "ledger.key": _LEDGER,
    "ledger.anchor": _LEDGER | {"link", "state"},
    "ledger.fatal": _LEDGER,
    "history.shed": frozenset({"count", "reason", "error"}),
    "relay.shed": frozenset({"count", "reason", "link"}),
    "recording": frozenset({"state", "links", "error"}),
    "task.restarted": frozenset({"task", "link", "error", "attempt"}),
    "loop.blocked": frozenset({"lag_ms"}),
    "clock.step": frozenset({"step_ms"}),
    "security": frozenset({"reason", "link", "check", "count", "state"}),
    "log_in": frozenset({"reason"}),
    "library": frozenset({"logger", "severity", "error"}),
    "suppressed": frozenset({"of", "count"}),
}
"""Event -> the fields it may have. There is none for a person, a terminal, a plate or a place."""

SENTENCES = frozenset({"finding", "restart_needed"})
"""Fields in plain words: file, key and reason, made by gateway.settings without values."""
_WORD = re.compile(r"[\w .:,+/()\[\]#*=-]{0,96}", re.ASCII)
_FIGURES = (int, float)
_VOLATILE = frozenset({"elapsed_ms", "lag_ms", "delay_ms", "attempt"})
PER_SECOND = 10
"""Identical records a second; the rest is one line that says how many there were."""
MOST_KEYS = 2048
UNLISTED = "unlisted"


class StructJournal:
    """gateway.ports.Journal on a stream. A stream that fails costs lines, never the caller."""

    def __init__(
        self,
        stream: IO[str] | IO[bytes],
        *,
        meter: Meter | None = None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._wall_ms = wall_ms
        self._monotonic_s = monotonic_s
        self._window_s = monotonic_s()
        self._seen: dict[tuple[Any, ...], int] = {}
        self._handler: _Libraries | None = None
        self._before: tuple[list[logging.Handler], int] = ([], logging.WARNING)
        binary: Any = getattr(stream, "buffer", stream)
        # One step: each further processor of a chain costs as much as making the line does.
        self._log = structlog.wrap_logger(
            structlog.BytesLogger(binary),
            processors=[self._line],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=True,
        )
        self._door = threading.RLock()
        """The ledger's thread writes, too. Entered again by what a new second says of the last."""
        self._second = (-1, "")

    def note(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        """Something that happened as it should."""
        self._write(False, event, dict(fields))

    def warn(self, event: LogEvent, **fields: Unpack[LogFields]) -> None:
        """Something that somebody may have to look at."""
        self._write(True, event, dict(fields))

    def take_in_libraries(self) -> None:
        """Let what asyncio, aiohttp, aiomqtt and others log come through here, and only here."""
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        self._handler = _Libraries(self)
        root.handlers[:] = [self._handler]
        root.setLevel(logging.WARNING)
        logging.getLogger("aiohttp.access").disabled = True
        logging.captureWarnings(True)

    def close(self) -> None:
        """Say what was suppressed; give the standard library's logging back."""
        self._flush()
        if self._handler is not None:
            root = logging.getLogger()
            root.handlers[:], level = self._before
            root.setLevel(level)
            logging.captureWarnings(False)
            self._handler = None

    # ------------------------------------------------------------------ the way of a record

    def _write(self, warn: bool, event: str, fields: dict[str, object]) -> None:
        try:
            (self._log.warning if warn else self._log.info)(event, **fields)
        except (OSError, ValueError):  # disk full, pipe gone, stream closed
            self._dropped("stream")

    def _dropped(self, reason: str, n: int = 1) -> None:
        if self._meter is not None:
            self._meter.count("journal_dropped_total", n, reason=reason)

    def _line(self, _logger: Any, method: str, record: Record) -> bytes:
        """structlog's only processor. Raises DropEvent for what was said often enough."""
        with self._door:
            kept = self._limit(self._allow(method, record))
            if kept is None:
                raise structlog.DropEvent
            return self._stamp(kept)

    def _allow(self, method: str, record: Record) -> Record:
        event = record.pop("event")
        allowed = EVENTS.get(event)
        if allowed is None:
            self._dropped("event")
            event, allowed = UNLISTED, frozenset()
        kept: Record = {"event": event, "level": method}
        for name, value in record.items():
            if name in allowed and _fit(name, value):
                kept[name] = value
            else:
                self._dropped("field")
        return kept

    def _limit(self, record: Record) -> Record | None:
        """None: there were enough of the same in this second."""
        now_s = self._monotonic_s()
        if now_s - self._window_s >= 1.0:
            self._window_s = now_s
            self._flush()
        if record["event"] == "suppressed":
            return record
        key = tuple([item for item in record.items() if item[0] not in _VOLATILE])
        seen = self._seen.get(key, 0)
        if seen >= PER_SECOND or (not seen and len(self._seen) >= MOST_KEYS):
            self._dropped("rate")
            if seen:
                self._seen[key] = seen + 1
            return None
        self._seen[key] = seen + 1
        return record

    def _flush(self) -> None:
        over = {key: n - PER_SECOND for key, n in self._seen.items() if n > PER_SECOND}
        self._seen.clear()
        for key, count in over.items():
            self.warn("suppressed", of=dict(key)["event"], count=count)

    def _stamp(self, record: Record) -> bytes:
        second, ms = divmod(self._wall_ms(), 1000)
        if second != self._second[0]:
            at = datetime.datetime.fromtimestamp(second, datetime.UTC)
            self._second = (second, f"{at:%Y-%m-%dT%H:%M:%S}")
        return msgspec.json.encode({"t": f"{self._second[1]}.{ms:03d}Z", **record})


def _fit(name: str, value: object) -> bool:
    """Words and figures only: a name or a sentence from outside has no way in."""
    if isinstance(value, str):
        if name in SENTENCES:
            return len(value) <= 500
        return _WORD.fullmatch(value) is not None
    return value is None or isinstance(value, _FIGURES)


class _Libraries(logging.Handler):
    """Takes the record's logger, level and exception class; never its message or arguments."""

    def __init__(self, journal: StructJournal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._journal.warn(
            "library",
            logger=record.name,
            severity=record.levelname.lower(),
            error=kind.__name__ if kind is not None else None,
        )
