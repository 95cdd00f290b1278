"""The feed on MQTT: accepted fixes, the progress of checks without their subject, alarms.

    feed/fix/{issi}    QoS 0  {"issi", "t", "lat", "lon", "speed_mps", "course_deg", "accuracy_m"}
    feed/check/{issi}  QoS 1  {"event": open|stage|done|delivery, "check", "ref", "issi", "t", ...}
    feed/alarm/{id}    QoS 1  {"id", "rule", "pri", "state", "raised", "t", "issi", "link", ...}

`t` and the like are ISO 8601, UTC. Urgent events go first. What a broker that is away for long
makes us lose is counted: the feed says what happens now, the ledger what happened.
Source: docs/interfaces.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from adapters.mqtt_client import Access, Connection, Received, connect
from gateway.bus import Batch, EventBus, Subscription
from gateway.errors import LinkDown, SendFailed
from gateway.messages import (
    AlarmChanged,
    CheckDelivery,
    CheckDone,
    CheckOpened,
    CheckStaged,
    Event,
    UnitFix,
    Viewer,
)
from gateway.ports import Journal, Meter
from gateway.settings import BrokerSection

RIGHTS = frozenset({"callsign", "position", "identity", "emergency"})
"""Not `class`: what an answer was is not for whoever may subscribe to a broker."""
TURN_S = 1.0
PUT_WITHIN_S = 5.0


class Feed:
    """A relay: opened and kept like a link (gateway.supervise.keep)."""

    kind = "relay"

    def __init__(
        self,
        broker: BrokerSection,
        *,
        config_path: Path,
        bus: EventBus,
        meter: Meter,
        journal: Journal,
    ) -> None:
        self.name = f"{broker.name}-feed"
        self._broker = broker
        self._config_path = config_path
        self._bus = bus
        self._meter = meter
        self._journal = journal
        self._subscription: Subscription | None = None
        self._pending: deque[tuple[str, bytes]] = deque()
        """Events taken from the bus that the broker has not taken yet: one batch at most."""

    async def run(self, up: Any) -> None:
        """Open, then relay until the broker is gone. Raises LinkDown."""
        broker = self._broker
        access = Access(
            client_id=f"{broker.client_id}-feed",
            username=broker.feed_username or broker.username,
            password_file=broker.feed_password_file or broker.password_file,
            cert_file=broker.feed_cert_file or broker.cert_file,
            key_file=broker.feed_key_file or broker.key_file,
        )
        if self._subscription is None:
            viewer = Viewer(id=self.name, kind="relay", rights=RIGHTS)
            self._subscription = self._bus.subscribe(viewer)
        async with connect(
            broker, access, config_path=self._config_path, sink=_deaf, persistent=False
        ) as line:
            up()
            relaying = asyncio.ensure_future(self._relay(line, self._subscription))
            broken = asyncio.ensure_future(line.broken())
            try:
                await asyncio.wait({relaying, broken}, return_when=asyncio.FIRST_COMPLETED)
                if relaying.done():
                    relaying.result()
                raise LinkDown(broken.result() if broken.done() else "ended")
            except SendFailed as error:
                raise LinkDown("broker takes nothing from us") from error
            finally:
                for task in (relaying, broken):
                    task.cancel()
                await asyncio.gather(relaying, broken, return_exceptions=True)

    async def _relay(self, line: Connection, subscription: Subscription) -> None:
        while True:
            while self._pending:
                topic, body = self._pending[0]
                await line.put(topic, body, qos=1, deadline_s=PUT_WITHIN_S)
                self._pending.popleft()
            batch = await subscription.next(TURN_S)
            self._count_losses(batch)
            for _, event in batch.events:
                said = message_of(event)
                if said is not None:
                    self._pending.append(said)
            for fix in batch.fixes:
                await line.put(f"feed/fix/{fix.terminal}", fix_body(fix), qos=0)

    def _count_losses(self, batch: Batch) -> None:
        if batch.conflated:
            self._meter.count(
                "queue_dropped_total", batch.conflated, queue="fix", reason="conflated"
            )
        if batch.reset is not None:
            self._meter.count("queue_dropped_total", queue="console", reason="slow")
            self._journal.warn("relay.shed", link=self.name, reason=batch.reset)


def _deaf(_line: Connection, _received: Received) -> None:
    """The feed subscribes to nothing."""


def fix_body(fix: UnitFix) -> bytes:
    """`feed/fix/{issi}`; what the receiver did not say is left out."""
    body = {
        "issi": fix.terminal,
        "t": _moment(fix.fixed_at_ms),
        "lat": fix.lat,
        "lon": fix.lon,
        "speed_mps": fix.speed_mps,
        "course_deg": fix.course_deg,
        "accuracy_m": fix.accuracy_m,
    }
    return msgspec.json.encode({key: value for key, value in body.items() if value is not None})


def message_of(event: Event) -> tuple[str, bytes] | None:
    """Topic and body of an event; None for one that this feed does not carry."""
    match event:
        case CheckOpened() | CheckStaged() | CheckDone() | CheckDelivery():
            body = {"check": event.check, "ref": event.short, "issi": event.terminal}
            return f"feed/check/{event.terminal}", msgspec.json.encode(body | _progress(event))
        case AlarmChanged():
            return f"feed/alarm/{event.id}", msgspec.json.encode(_alarm(event))
        case _:
            return None


def _progress(event: CheckOpened | CheckStaged | CheckDone | CheckDelivery) -> dict[str, Any]:
    match event:
        case CheckOpened():
            return {
                "event": "open",
                "kind": event.kind.value,
                "t": _moment(event.opened_ms),
                "deadline": _moment(event.deadline_ms),
            }
        case CheckStaged():
            return {"event": "stage", "stage": event.stage, "t": _moment(event.t_ms)}
        case CheckDone():
            return {
                "event": "done",
                "kind": event.kind.value,
                "outcome": event.outcome.value,
                "elapsed_s": round(event.elapsed_s, 3),
                "t": _moment(event.t_ms),
            }
        case CheckDelivery():
            return {
                "event": "delivery",
                "part": event.part,
                "state": event.state,
                "t": _moment(event.t_ms),
            }


def _alarm(event: AlarmChanged) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": event.id,
        "rule": event.rule,
        "pri": event.priority,
        "state": event.state,
        "raised": _moment(event.raised_ms),
        "t": _moment(event.t_ms),
        "count": event.count,
    }
    more = {"issi": event.terminal, "link": event.link, "ref": event.short}
    return body | {key: value for key, value in more.items() if value}


def _moment(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
