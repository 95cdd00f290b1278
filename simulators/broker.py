"""The demo's MQTT broker, in this process: amqtt on a loopback port, MQTT 3.1.1 only.

Traps of amqtt 0.12 that shape this file, all measured: MQTT 5 clients are refused; sessions of
anonymous users are not kept, so users are named; what was queued for an absent client comes with
the RETAIN flag set, so the gateway's broker section must say `queued_marked_retained = true`;
unacknowledged messages do not come again. For the demo and tests: production has mosquitto.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

STOP_WITHIN_S = 5.0
HANG_UP_S = 2.0
QUIET = ("amqtt", "transitions")


class NamedUsers(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is untyped
    """Lets in whoever has a name and its password; nobody else. Found by amqtt by its path."""

    async def authenticate(self, *, session: Session) -> bool | None:
        users: dict[str, str] = self._get_config_option("users", {})
        expected = users.get(session.username or "")
        return expected is not None and session.password == expected

    @dataclass
    class Config:
        """users: name -> password."""

        users: dict[str, str] = field(default_factory=dict)


def allowed(user: str, topic: str, action: str, *, prefix: str, staff: frozenset[str]) -> bool:
    """Whether a user may publish to, subscribe to or receive a topic.

    Staff (the gateway's sessions) may do all. A terminal may speak below its own `up/` and
    hear its own `down/` and the gateway's state; its identity is thereby bound to its credential.
    So is a phone's: it may say where it is, as `owntracks/user/device`.
    """
    if user in staff:
        return True
    if topic.startswith(f"owntracks/{user}/") and topic.count("/") == 2:
        return bool(action == Action.PUBLISH)
    if action == Action.PUBLISH:
        return topic.startswith(f"{prefix}/{user}/up/") or topic == f"{prefix}/{user}/presence"
    return topic.startswith((f"{prefix}/{user}/down/", "gateway/"))


class _FencedBroker(Broker):  # type: ignore[misc]  # amqtt is untyped
    """amqtt with the topic rules above.

    Not as a topic plugin: those are awaited in tasks of their own while amqtt walks its table of
    subscriptions, and a client that subscribes at that moment makes it lose the message.
    """

    fence_prefix = "radio"
    fence_staff: frozenset[str] = frozenset()

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self.talks: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        """Connections: amqtt keeps no list of those that have not said who they are."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks[task] = writer
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            del self.talks[task]
            writer.close()

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        return allowed(
            session.username or "", topic, action, prefix=self.fence_prefix, staff=self.fence_staff
        )


class EmbeddedBroker:
    """One broker on 127.0.0.1. `port` is known after `start`."""

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        staff: frozenset[str] = frozenset(),
        prefix: str = "radio",
        port: int = 0,
    ) -> None:
        """users: name -> password; a terminal's name is its ISSI. staff: names without fences."""
        self._users = dict(users)
        self._staff = staff
        self._prefix = prefix
        self._wanted_port = port
        self._broker: _FencedBroker | None = None
        self._levels: dict[str, int] = {}
        self._before: set[asyncio.Task[Any]] = set()
        self.port = port

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        # amqtt writes a traceback for each client that goes away: that is the clients' affair.
        self._levels = {name: logging.getLogger(name).level for name in QUIET}
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._before = asyncio.all_tasks()
        config = BrokerConfig(
            listeners={"default": ListenerConfig(bind=f"127.0.0.1:{self._wanted_port}")},
            plugins={f"{__name__}.{NamedUsers.__name__}": {"users": self._users}},
        )
        broker = _FencedBroker(config)
        broker.fence_prefix, broker.fence_staff = self._prefix, self._staff
        try:
            await broker.start()
        except BaseException as error:
            self._unquiet()
            cause = error.__cause__
            if isinstance(cause, OSError):
                raise cause from error
            raise
        self._broker = broker
        # The port that the system chose; amqtt has no public word for it.
        server = broker._servers["default"].instance
        self.port = int(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close every connection and the port; leaves no task and no socket. At most 5 s."""
        broker, self._broker = self._broker, None
        if broker is None:
            return
        listener = broker._servers["default"].instance
        listener.close()
        try:
            await self._hang_up(broker)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await broker.shutdown()
        finally:
            await self._reap()
            self._unquiet()

    async def _hang_up(self, broker: _FencedBroker) -> None:
        """Break every connection first: amqtt's own shutdown can wait for ever for a reader.

        Each side then sees the end of its stream. Cancelling instead would make asyncio (3.11)
        log a fault for whoever has not yet said who he is.
        """
        talks = dict(broker.talks)
        for writer in talks.values():
            writer.transport.abort()
        if talks:
            await asyncio.wait(talks, timeout=HANG_UP_S)

    async def _reap(self) -> None:
        """End the tasks that amqtt started for its clients and does not end itself."""
        left = {
            task
            for task in asyncio.all_tasks() - self._before
            if task is not asyncio.current_task() and _is_amqtt(task)
        }
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=STOP_WITHIN_S)

    def _unquiet(self) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


def _is_amqtt(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/amqtt/" in code.co_filename
