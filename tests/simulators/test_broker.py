"""The embedded broker: named users, fences, sessions that are kept, and nothing left after stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiomqtt
import pytest

from simulators.broker import EmbeddedBroker, allowed

USERS = {"gw": "secret", "5001001": "one", "5001002": "two"}


@pytest.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(USERS, staff=frozenset({"gw"}))
    await broker.start()
    yield broker
    await broker.stop()


def client(broker: EmbeddedBroker, user: str, password: str | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=f"t-{user}",
        username=user,
        password=USERS[user] if password is None else password,
        protocol=aiomqtt.ProtocolVersion.V311,
        clean_session=False,
        timeout=5,
    )


async def take(client: aiomqtt.Client, count: int) -> list[aiomqtt.Message]:
    found: list[aiomqtt.Message] = []
    async with asyncio.timeout(5):
        async for message in client.messages:
            found.append(message)
            if len(found) == count:
                break
    return found


def sockets() -> set[str]:
    """The inodes of this process's open sockets."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


async def test_stop_leaves_no_socket_and_no_task(caplog: pytest.LogCaptureFixture) -> None:
    """After stop, with clients still connected, nothing of the broker remains, and all is quiet."""
    sockets_before, tasks_before = sockets(), asyncio.all_tasks()
    broker = EmbeddedBroker(USERS, staff=frozenset({"gw"}))
    await broker.start()
    _, silent = await asyncio.open_connection("127.0.0.1", broker.port)
    gateway = client(broker, "gw")
    await gateway.__aenter__()
    await gateway.subscribe("radio/#", qos=1)
    async with client(broker, "5001001") as terminal:
        await terminal.publish("radio/5001001/up/text", b"x", qos=1)
    await take(gateway, 1)

    await broker.stop()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", broker.port)
    with pytest.raises(aiomqtt.MqttError):
        await take(gateway, 1)
    await gateway.__aexit__(None, None, None)
    silent.close()
    async with asyncio.timeout(5):
        # Nothing tells when a kernel socket is gone.
        while sockets() - sockets_before or asyncio.all_tasks() - tasks_before:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert caplog.text == ""


async def test_start_and_stop_again() -> None:
    """The same object serves again after a stop; stopping twice is harmless."""
    broker = EmbeddedBroker(USERS)
    for _ in range(2):
        await broker.start()
        assert broker.port > 0
        await broker.stop()
    await broker.stop()


async def test_port_taken_is_an_oserror(broker: EmbeddedBroker) -> None:
    """A port that somebody has is said in the system's own words."""
    with pytest.raises(OSError):
        await EmbeddedBroker(USERS, port=broker.port).start()


@pytest.mark.parametrize(("user", "password"), [("5001001", "two"), ("5001001", ""), ("gw", "x")])
async def test_wrong_password_is_refused(broker: EmbeddedBroker, user: str, password: str) -> None:
    """A credential opens one identity only."""
    with pytest.raises(aiomqtt.MqttError):
        async with client(broker, user, password):
            pass


async def test_stranger_is_refused(broker: EmbeddedBroker) -> None:
    """Nobody is anonymous."""
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(
            "127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V311, timeout=5
        ):
            pass


async def test_terminal_cannot_speak_or_listen_for_another(broker: EmbeddedBroker) -> None:
    """A message under another identity does not arrive; another's answers are not overheard."""
    async with client(broker, "gw") as gateway, client(broker, "5001001") as terminal:
        await gateway.subscribe("radio/+/up/#", qos=1)
        codes = await terminal.subscribe("radio/5001002/down/#", qos=1)
        assert codes[0].is_failure  # type: ignore[union-attr]
        await terminal.publish("radio/5001002/up/text", b"false", qos=1)
        await terminal.publish("radio/5001001/up/text", b"true", qos=1)
        messages = await take(gateway, 1)
        assert [m.payload for m in messages] == [b"true"]


async def test_queued_for_an_absent_terminal_comes_marked_retained(broker: EmbeddedBroker) -> None:
    """What waited arrives, with the flag that the gateway's broker section must allow for."""
    async with client(broker, "gw") as gateway:
        async with client(broker, "5001001") as terminal:
            await terminal.subscribe("radio/5001001/down/#", qos=1)
        await gateway.publish("radio/5001001/down/notice", b"while away", qos=1)
        async with client(broker, "5001001") as terminal:
            (message,) = await take(terminal, 1)
    assert (message.payload, message.retain) == (b"while away", True)


@pytest.mark.parametrize(
    ("user", "topic", "action", "expected"),
    [
        ("5001001", "radio/5001001/up/check", "publish", True),
        ("5001001", "radio/5001001/presence", "publish", True),
        ("5001001", "radio/50010010/up/check", "publish", False),
        ("5001001", "radio/5001001/down/result", "publish", False),
        ("5001001", "gateway/demo/state", "publish", False),
        ("5001001", "radio/5001001/down/#", "subscribe", True),
        ("5001001", "radio/+/down/#", "subscribe", False),
        ("5001001", "#", "subscribe", False),
        ("5001001", "gateway/demo/state", "receive", True),
        ("gw", "radio/5001001/down/result", "publish", True),
    ],
)
def test_fences(user: str, topic: str, action: str, expected: bool) -> None:
    """A terminal reaches its own `up/` and `down/` and nothing else; staff reach all."""
    assert allowed(user, topic, action, prefix="radio", staff=frozenset({"gw"})) is expected
