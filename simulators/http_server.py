"""A server of the simulators' own: one port on loopback, that can be stopped and started again."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from simulators.clock import Clock

BODY_MOST = 65536
KEEPALIVE_S = 5.0
STOP_WITHIN_S = 1.0


class HttpServer:
    """port 0 takes any, and `url` says which after `start`. Whoever derives from it says what is
    served where (`add_routes`)."""

    def __init__(self, host: str, port: int, *, clock: Clock) -> None:
        self._host, self._port = host, port
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def add_routes(self, app: web.Application) -> None:
        """What is served where."""

    async def start(self) -> None:
        """Listen. Raises OSError when the port cannot be had."""
        self._stopping.clear()
        app = web.Application(client_max_size=BODY_MOST)
        self.add_routes(app)
        runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=STOP_WITHIN_S,
            keepalive_timeout=KEEPALIVE_S,
        )
        await runner.setup()
        self._runner = runner
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self._host, self._port))
            self._port = int(sock.getsockname()[1])
            await web.SockSite(runner, sock).start()
        except OSError:
            sock.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Hang up on everybody; harmless when it never started. It can be started again."""
        self._stopping.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def pause(self, seconds: float) -> None:
        """Until then, or until the server stops."""
        waits = [
            asyncio.ensure_future(self._stopping.wait()),
            asyncio.ensure_future(self._clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def json_reply(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def error_reply(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=504)
