"""The floor of an MQTT gateway in Python: aiomqtt, a task per message, a dictionary, an answer.

`python -m tests.bench.echo PORT check|fix`. TCP_NODELAY, because without it paho meets the delayed
ACK; no record, no policy, nothing of ours. It says `ready` when it is subscribed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import aiomqtt

KNOWN = {str(n): n for n in range(5_000_000, 5_010_000)}
NODELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


async def serve(port: int, what: str) -> None:
    qos = 1 if what == "check" else 0
    tasks: set[asyncio.Task[None]] = set()
    async with aiomqtt.Client(
        "127.0.0.1", port, socket_options=NODELAY, identifier="echo", clean_session=True
    ) as client:

        async def answer(message: aiomqtt.Message) -> None:
            issi = str(message.topic).split("/", 2)[1]
            if issi in KNOWN:
                topic = f"radio/{issi}/down/result" if qos else f"feed/fix/{issi}"
                await client.publish(topic, message.payload, qos=qos)

        await client.subscribe(f"radio/+/up/{what}", qos=qos)
        print("ready", flush=True)
        async for message in client.messages:
            task = asyncio.create_task(answer(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    logging.disable()  # it warns of each call that waits
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
