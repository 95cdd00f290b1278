"""The feed on MQTT: accepted fixes, the progress of checks without their subject, alarms.

    feed/fix/{issi}    QoS 0  {"issi", "t", "lat", "lon", "speed_mps", "course_deg", "accuracy_m"}
    feed/check/{issi}  QoS 1  {"check", "ref", "issi", "event", "t", ...}
        event open      + "kind", "deadline"
        event stage     + "stage": queued, pnc, retry, held, prompted, disclosing, delivering
        event done      + "kind", "outcome", "elapsed_s"
        event delivery  + "part", "state": sent, delivered, read, failed, stale
    feed/alarm/{id}    QoS 1  {"id", "rule", "pri", "state", "raised", "t", "count"}
                              + "response", "issi", "link", "ref", "chatter", "group",
                                "shelved_until" where the alarm has one; what is the supervisors'
                                alone is not said

`t`, `raised`, `deadline`: ISO 8601, UTC. `ref`: the short form of the check. Nothing is retained:
the feed says what happens now, the ledger what happened. At the start of the gateway, alarms that
were open before are said again. A member that is not known is left out.

Below L3 `done` comes in the terminal's slot and no step before it that would tell how long the PNC
took; no alarm about one question is said (gateway.projection).

QoS 1 is at least once: an event whose acknowledgement was lost comes twice, as the same bytes.
An alarm that changed while the broker was away is said once, as it then stands. After each
reconnect the newest position of each unit and every open alarm are said again.
Source: docs/interfaces.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from adapters.mqtt_client import Access, Connection, Received, Refused, connect, moment
from adapters.relays.lanes import CheckEvent, Lanes
from gateway.bus import EventBus, Subscription
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
from gateway.ports import Clock, Journal, Meter, Present
from gateway.settings import BrokerSection

ROLE = "relay"
"""Whose console rule in the policy says what this feed carries. Without one it carries nothing
of units, checks and calls for help."""
PUT_WITHIN_S = 5.0
EVENTS_AT_ONCE = 12
"""Unacknowledged at a time; the client stops at 20, and an alarm must find a place."""
FIXES_AT_ONCE = 100
"""Then the loop turns, and what the kernel did not take yet is waited for."""


class Feed:
    """A relay: opened and kept like a link (gateway.supervise.keep)."""

    kind = "relay"

    def __init__(
        self,
        broker: BrokerSection,
        *,
        instance: str,
        exercise: bool,
        config_path: Path,
        bus: EventBus,
        present: Present,
        clock: Clock,
        meter: Meter,
        journal: Journal,
    ) -> None:
        del instance, exercise, clock
        self.name = f"{broker.name}-feed"
        self._broker = broker
        self._config_path = config_path
        self._bus = bus
        self._present = present
        self._meter = meter
        self._viewer = Viewer(id=self.name, kind="relay", roles=frozenset({ROLE}))
        self._subscription: Subscription | None = None
        self._was_up = False
        self._lanes = Lanes(link=self.name, meter=meter, journal=journal)

    async def run(self, up: Callable[[], None]) -> None:
        """Open, then relay until the broker is gone. Raises LinkDown."""
        if self._subscription is None:
            # From the first event that is kept: alarms raised again at the start are among them.
            self._subscription = self._bus.subscribe(self._viewer, after=0)
        # Before there is a connection: what waits on the bus grows too old there.
        reading = asyncio.ensure_future(self._read(self._subscription))
        try:
            async with connect(
                self._broker,
                self._access(),
                config_path=self._config_path,
                sink=_deaf,
                persistent=False,
            ) as line:
                up()
                if self._was_up:
                    # Whoever subscribes may have lost it with the broker.
                    self._lanes.again(self._present)
                self._was_up = True
                await self._until_broken(line, reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def _access(self) -> Access:
        broker = self._broker
        return Access(
            client_id=f"{broker.client_id}-feed",
            username=broker.feed_username or broker.username,
            password_file=broker.feed_password_file or broker.password_file,
            cert_file=broker.feed_cert_file or broker.cert_file,
            key_file=broker.feed_key_file or broker.key_file,
        )

    async def _until_broken(self, line: Connection, reading: asyncio.Task[None]) -> None:
        broken = asyncio.ensure_future(line.broken())
        saying = [
            asyncio.ensure_future(lane(line))
            for lane in (self._say_alarms, self._say_events, self._say_fixes)
        ]
        tasks: list[asyncio.Task[Any]] = [broken, reading, *saying]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks[1:]:
                if task.done():
                    task.result()
            raise LinkDown(broken.result() if broken.done() else "ended")
        except SendFailed as error:
            raise LinkDown(broken.result() if broken.done() else str(error)) from error
        finally:
            for task in (broken, *saying):
                task.cancel()
            await asyncio.gather(broken, *saying, return_exceptions=True)

    async def _read(self, subscription: Subscription) -> None:
        """Never waits for the broker, so the bus never waits for us, nor an alarm for a check."""
        while True:
            batch = await subscription.next()
            if batch.closed:
                return
            self._lanes.take(batch)

    # ----------------------------------------------------------------- one lane each

    async def _say_alarms(self, line: Connection) -> None:
        while True:
            await self._lanes.alarm_news.wait()
            alarm = self._lanes.first_alarm()
            if alarm is None:
                continue
            said = self._message_of(alarm)
            if said is not None:
                try:
                    await line.put(*said, deadline_s=PUT_WITHIN_S)
                    self._count(said[1])
                except Refused:
                    emergency = alarm.rule == "EMG"
                    self._lanes.lost("emergency" if emergency else "console", "unavailable")
            self._lanes.said(alarm)

    async def _say_events(self, line: Connection) -> None:
        while True:
            await self._lanes.event_news.wait()
            turn = self._lanes.first_events(EVENTS_AT_ONCE)
            offered = []
            for event in turn:
                said = self._message_of(event)
                offered.append((event, said, line.offer(*said) if said else None))
            for event, said, ticket in offered:
                if said is not None and ticket is not None:
                    try:
                        await line.confirmed(ticket, PUT_WITHIN_S)
                        self._count(said[1])
                    except Refused:
                        self._lanes.lost("console", "unavailable")
                self._lanes.out(event)

    async def _say_fixes(self, line: Connection) -> None:
        while True:
            await self._lanes.fix_news.wait()
            await line.drained(PUT_WITHIN_S)
            for fix in self._lanes.next_fixes(FIXES_AT_ONCE):
                said = self._message_of(fix)
                if said is not None:
                    line.offer(*said, qos=0)
                    self._count(said[1])
            await asyncio.sleep(0)

    def _message_of(self, event: Event) -> tuple[str, bytes] | None:
        """Under the policy of this moment: it may be another one than when the event was read."""
        shown = self._bus.projected(self._viewer, event)
        return None if shown is None else message_of(shown)

    def _count(self, body: bytes) -> None:
        self._meter.count("link_send_bytes_total", len(body), link=self.name)


def _deaf(_line: Connection, _received: Received) -> None:
    """The feed subscribes to nothing."""


def message_of(event: Event) -> tuple[str, bytes] | None:
    """Topic and body of an event; None for one that this feed does not carry."""
    match event:
        case UnitFix():
            return f"feed/fix/{event.terminal}", msgspec.json.encode(_fix(event))
        case CheckOpened() | CheckStaged() | CheckDone() | CheckDelivery():
            body = {"check": event.check, "ref": event.short, "issi": event.terminal}
            return f"feed/check/{event.terminal}", msgspec.json.encode(body | _progress(event))
        case AlarmChanged(audience="supervisor"):
            return None
        case AlarmChanged():
            return f"feed/alarm/{event.id}", msgspec.json.encode(_alarm(event))
        case _:
            return None


def _fix(fix: UnitFix) -> dict[str, Any]:
    body = {
        "issi": fix.terminal,
        "t": moment(fix.fixed_at_ms),
        "lat": fix.lat,
        "lon": fix.lon,
        "speed_mps": fix.speed_mps,
        "course_deg": fix.course_deg,
        "accuracy_m": fix.accuracy_m,
    }
    return {key: value for key, value in body.items() if value is not None}


def _progress(event: CheckEvent) -> dict[str, Any]:
    match event:
        case CheckOpened():
            return {
                "event": "open",
                "kind": event.kind.value,
                "t": moment(event.opened_ms),
                "deadline": moment(event.deadline_ms),
            }
        case CheckStaged():
            return {"event": "stage", "stage": event.stage, "t": moment(event.t_ms)}
        case CheckDone():
            return {
                "event": "done",
                "kind": event.kind.value,
                "outcome": event.outcome.value,
                "elapsed_s": round(event.elapsed_s, 3),
                "t": moment(event.t_ms),
            }
        case CheckDelivery():
            return {
                "event": "delivery",
                "part": event.part,
                "state": event.state,
                "t": moment(event.t_ms),
            }


def _alarm(event: AlarmChanged) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": event.id,
        "rule": event.rule,
        "pri": event.priority,
        "state": event.state,
        "raised": moment(event.raised_ms),
        "t": moment(event.t_ms),
        "count": event.count,
    }
    more = {
        "issi": event.terminal,
        "link": event.link,
        "ref": event.short,
        "response": event.response,
        "chatter": event.chatter,
        "group": event.group,
    }
    if event.shelved_until_ms is not None:
        body["shelved_until"] = moment(event.shelved_until_ms)
    return body | {key: value for key, value in more.items() if value}
