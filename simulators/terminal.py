"""Be one officer: a virtual radio at the keyboard, over the real codec and the real bearer.

What is typed is what a radio's keypad takes: KeySDS text, or `emergency`, `status N`, `ack`; a
script may also `wait [SECONDS]` for the open answers and `sleep SECONDS`. Only synthetic subjects
exist behind a mock PNC. Exit codes (design ops.md 6): 0 answered, 1 the bearer cannot be had,
4 no answer, 5 refused, 64 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
import tempfile
import textwrap
import threading
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TextIO

from simulators.clock import Clock, RealClock
from simulators.handset import Exchange, Reading
from simulators.lines import DeviceLine, Line, PtyLine
from simulators.mqtt_terminal import MqttTerminal
from simulators.patrol import AREAS, Patrol
from simulators.pty_radio import PtyRadio
from simulators.radio import BadEnquiry, Radio
from simulators.signals import stop_signals
from simulators.tetra_cell import AIRS
from simulators.tetra_handset import TetraHandset
from simulators.tetra_pei import MAKES
from simulators.tetra_radio import TetraRadio

EXIT_ANSWERED = 0
EXIT_FAILED = 1
EXIT_NO_ANSWER = 4
EXIT_REFUSED = 5
EXIT_USAGE = 64

WIDTH, HEIGHT = 20, 4
"""The officer's screen (console design, 18.1)."""
CONNECT_WITHIN_S = 5.0
WAIT_S = 30.0
"""Longer than any deadline that the gateway ships with, so that its own word comes first."""
NEVER_S = 1e9
"""At the keyboard the officer says `ack`."""
THINK_S = 0.3


def screens(exchange: Exchange) -> list[str]:
    """What the radio shows, as boxes of 4 x 20. A part that did not come is marked missing."""
    boxes: list[str] = []
    for number in range(1, max(exchange.parts, len(exchange.pages), 1) + 1):
        text = exchange.pages.get(number)
        if text is None:
            if exchange.parts == 0:
                return []
            text = f"PART {number} MISSING"
        lines = [
            piece
            for line in text.splitlines()
            for piece in (textwrap.wrap(line, WIDTH, break_on_hyphens=False) or [""])
        ]
        for start in range(0, max(len(lines), 1), HEIGHT):
            page = [line.ljust(WIDTH) for line in lines[start : start + HEIGHT]]
            page += [" " * WIDTH] * (HEIGHT - len(page))
            edge = "+" + "-" * WIDTH + "+"
            boxes.append("\n".join([edge, *(f"|{line}|" for line in page), edge]))
    return boxes


def stage_times(exchange: Exchange) -> str:
    """`SENT 0.004 s  answer 0.132 s`, from the moment it was put on the air."""
    words = []
    if exchange.receipt_at_s is not None:
        words.append(f"SENT {exchange.receipt_at_s - exchange.asked_at_s:.3f} s")
    else:
        words.append("no SENT: use voice")
    if exchange.done_at_s is not None:
        words.append(f"answer {exchange.done_at_s - exchange.asked_at_s:.3f} s")
    if exchange.resends:
        words.append(f"repeated {exchange.resends} times")
    return "  ".join(words)


def exit_code(exchanges: Sequence[Exchange]) -> int:
    """The worst of all: no answer before refused before answered."""
    readings = [exchange.reading for exchange in exchanges]
    if any(reading in (None, Reading.NO_ANSWER) for reading in readings):
        return EXIT_NO_ANSWER
    if Reading.REFUSED in readings:
        return EXIT_REFUSED
    return EXIT_ANSWERED


class Usage(Exception):
    """What was typed is no command."""


class Desk:
    """The keyboard and the screen around one radio."""

    def __init__(self, radio: Radio, *, clock: Clock, out: TextIO, err: TextIO) -> None:
        self.radio = radio
        self._clock = clock
        self._out = out
        self._err = err
        self._shown: dict[int, tuple[object, ...]] = {}
        self._notices = 0

    def do(self, line: str) -> Exchange | None:
        """Carry out one typed line (all but `wait` and `sleep`). Raises Usage."""
        words = line.split()
        match [words[0].lower(), *words[1:]]:
            case ["emergency"]:
                self.radio.emergency()
                self._talk("emergency sent")
            case ["status", code] if code.isdecimal() and int(code) <= 65535:
                self.radio.status(int(code))
                self._talk(f"status {int(code)} sent")
            case ["ack"]:
                for message in self.radio.handset.read_now(self._clock.monotonic_s()):
                    self.radio.say(message)
            case ["status", *_]:
                raise Usage("status takes one number, 0 to 65535 (0 is an emergency)")
            case _:
                try:
                    return self.radio.key_in(line)
                except BadEnquiry as error:
                    raise Usage(str(error)) from error
        return None

    def show(self) -> None:
        """Print what is new: SENT, answers, notices."""
        for exchange in self.radio.handset.exchanges:
            state = (exchange.receipt_at_s, exchange.done_at_s, exchange.voice)
            before = self._shown.get(id(exchange), (None, None, False))
            if state == before:
                continue
            self._shown[id(exchange)] = state
            if before[0] is None and exchange.receipt_at_s is not None and not exchange.why:
                self._talk(f"SENT {exchange.short}")
            if exchange.voice and not before[2]:
                self._talk("no SENT in 5 s: not received. Use voice")
            if before[1] is None and not exchange.open:
                self._answer(exchange)
        for notice in list(self.radio.handset.notices)[self._notices :]:
            self._out.write(f"NOTICE {notice.text}\n")
        self._notices = len(self.radio.handset.notices)
        self._out.flush()

    def _answer(self, exchange: Exchange) -> None:
        boxes = screens(exchange)
        self._out.write("\n".join(boxes) + "\n" if boxes else f"XX {exchange.why}\n")
        word = exchange.outcome.value if exchange.outcome else str(exchange.reading)
        self._out.write(f"{exchange.short or '----'} {word}  {stage_times(exchange)}\n")

    def _talk(self, text: str) -> None:
        self._err.write(f"{text}\n")
        self._err.flush()


async def terminal(
    *,
    issi: str,
    callsign: str = "",
    bearer: str = "mqtt",
    port: str = "",
    baud: int = 9600,
    host: str = "127.0.0.1",
    username: str = "",
    password_file: Path | None = None,
    pki: Path | None = None,
    version: str = "5",
    prefix: str = "radio",
    once: str = "",
    wait: bool = False,
    wait_s: float = WAIT_S,
    script: Path | None = None,
    area: str = "",
    make: str = "plain",
    air: str = "near",
    stdin: TextIO = sys.stdin,
    out: TextIO = sys.stdout,
    err: TextIO = sys.stderr,
    clock: Clock | None = None,
) -> int:
    """Be the officer of terminal `issi`; returns the exit code.

    port: for mqtt the broker's TCP port (1883, with pki 8883); pki: the folder with its certificate
    and the CA's; for serial and tetra the path of a device, or of the link to make for a new PTY
    (empty: one in the temporary folder, printed). tetra: the gateway's own radio stands at that
    port, of this make, in this air, and the officer is heard by it. once: send one line; with
    wait, stay until its answer or wait_s. area: send fixes of a walk there, else none.
    """
    clock = clock or RealClock()
    with contextlib.ExitStack() as kept:
        try:
            patrol = Patrol(issi, area) if area else None
            think_s = THINK_S if once or script else NEVER_S
            radio: Radio
            if bearer == "serial":
                radio = PtyRadio(
                    issi=issi,
                    callsign=callsign or issi,
                    line=_line(port, baud, kept),
                    clock=clock,
                    patrol=patrol,
                    think_s=think_s,
                    resends=True,
                )
                radio.plug()
                err.write(f"radio on {radio.line.path}\n")
            elif bearer == "tetra":
                base = TetraRadio(
                    name="base",
                    line=_line(port, baud, kept),
                    clock=clock,
                    habits=MAKES[make],
                    air=AIRS[air],
                    seed=clock.wall_ms(),
                )
                base.plug()
                kept.callback(base.close)
                radio = TetraHandset(
                    issi=issi,
                    callsign=callsign or issi,
                    base=base,
                    clock=clock,
                    patrol=patrol,
                    think_s=think_s,
                    resends=True,
                )
                err.write(f"TETRA radio on {base.line.path}\n")
            else:
                radio = MqttTerminal(
                    issi=issi,
                    callsign=callsign or issi,
                    host=host,
                    port=int(port or (8883 if pki else 1883)),
                    username=username,
                    password=_secret(password_file),
                    version=version,
                    prefix=prefix,
                    clock=clock,
                    patrol=patrol,
                    think_s=think_s,
                    seed=clock.wall_ms(),
                    tls=_certified(pki, issi) if pki else None,
                )
            lines = _lines_of(script) if script else []
        except OSError as error:
            err.write(f"cannot be opened: {error.filename or port}: {error.strerror or error}\n")
            return EXIT_FAILED
        except ValueError as error:
            err.write(f"{error}\n")
            return EXIT_USAGE
        desk = Desk(radio, clock=clock, out=out, err=err)
        with stop_signals() as stop:
            return await _be(
                desk,
                stop=stop,
                once=once,
                wait=wait,
                wait_s=wait_s,
                script=lines if script else None,
                stdin=stdin,
            )


def _secret(path: Path | None) -> str:
    return path.read_text("utf-8").strip() if path else ""


def _certified(pki: Path, issi: str) -> ssl.SSLContext:
    """As the terminal that this certificate names (`radio-gateway pki issue`)."""
    context = ssl.create_default_context(cafile=pki / "ca.crt")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki / f"{issi}.crt", pki / f"{issi}.key", password="")
    return context


def _lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def _line(port: str, baud: int, kept: contextlib.ExitStack) -> Line:
    """The line that `port` means. A link that points nowhere is one that a PTY left: replaced."""
    path = Path(port) if port else None
    if path is not None and path.exists():
        return DeviceLine(path, baud)
    if path is None:
        folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="radio-"))
        path = Path(folder) / "line"
    return PtyLine(path)


async def _be(
    desk: Desk,
    *,
    stop: asyncio.Event,
    once: str,
    wait: bool,
    wait_s: float,
    script: Sequence[str] | None,
    stdin: TextIO,
) -> int:
    code = EXIT_ANSWERED

    async def work() -> None:
        nonlocal code
        if isinstance(desk.radio, MqttTerminal):
            terminal_ = desk.radio
            if not await terminal_.until(lambda: terminal_.connected, CONNECT_WITHIN_S):
                desk._talk("the broker cannot be reached, or refuses this terminal")
                code = EXIT_FAILED
                return
        if once:
            code = await _once(desk, once, wait, wait_s)
        elif script is not None:
            code = await _script(desk, _each(script), wait_s)
        else:
            desk._talk("V, N, P ... as on a keypad; emergency, status N, ack; end with Ctrl-D")
            await _script(desk, _keyboard(stdin), None)

    duties = [
        asyncio.create_task(desk.radio.run(), name="radio"),
        asyncio.create_task(work(), name="officer"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
        for duty in done:
            duty.result()
    except Usage as error:
        desk._talk(f"{error}")
        code = EXIT_USAGE
    finally:
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
    return code


async def _once(desk: Desk, line: str, wait: bool, wait_s: float) -> int:
    exchange = desk.do(line)
    if exchange is None or not wait:
        # Out of our hands only when the bearer has it: give it a moment of the loop's time.
        await desk.radio.until(lambda: False, 0.3)
        return EXIT_ANSWERED
    await desk.radio.until(lambda: not exchange.open, wait_s)
    desk.show()
    if exchange.open:
        desk._talk(f"no answer in {wait_s:g} s: treat as unknown. {stage_times(exchange)}")
    else:
        desk.do("ack")
        await desk.radio.until(lambda: False, 0.2)
    return exit_code([exchange])


async def _script(desk: Desk, lines: AsyncIterator[str], wait_s: float | None) -> int:
    """Line by line. wait_s: wait so long for the open answers at the end; None: a keyboard."""
    asked: list[Exchange] = []
    shown = asyncio.create_task(_keep_showing(desk), name="screen")
    try:
        async for raw in lines:
            line = raw.split("#", 1)[0].strip()
            if not line:
                continue
            word, _, rest = line.partition(" ")
            if word.lower() in ("wait", "sleep"):
                seconds = _seconds(rest, wait_s or WAIT_S)
                done = [] if word.lower() == "sleep" else asked
                await desk.radio.until(
                    lambda done=done: bool(done) and not any(e.open for e in done),  # type: ignore[misc]
                    seconds,
                )
                continue
            try:
                exchange = desk.do(line)
            except Usage as error:
                if wait_s is not None:
                    raise
                desk._talk(f"{error}")
                continue
            if exchange is not None:
                asked.append(exchange)
                del asked[:-100]
        if wait_s is not None:
            await desk.radio.until(lambda: not any(e.open for e in asked), wait_s)
            desk.show()
            desk.do("ack")
            await desk.radio.until(lambda: False, 0.2)
    finally:
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
    return exit_code(asked)


def _seconds(text: str, default: float) -> float:
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise Usage("wait and sleep take seconds") from None


async def _keep_showing(desk: Desk) -> None:
    while True:
        await desk.radio.until(lambda: False, 0.1)
        desk.show()


async def _each(lines: Sequence[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


async def _keyboard(stdin: TextIO) -> AsyncIterator[str]:
    """Lines as they are typed.

    A thread reads them: making a terminal non-blocking would make our own output so, too. It is a
    daemon, because nothing can interrupt a read from a keyboard when the radio is switched off.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue(16)

    def read() -> None:
        # RuntimeError: the loop ended while we waited for a key.
        with contextlib.suppress(RuntimeError, ValueError):
            for line in stdin:
                asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(lines.put(None), loop).result()

    threading.Thread(target=read, name="keyboard", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


# --------------------------------------------------------------------------- command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `radio-gateway terminal` (design ops.md 6)."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--as", dest="callsign", default="", metavar="CALLSIGN", help="see --fleet")
    who.add_argument("--issi", default="", metavar="N", help="the terminal's identity, 1-8 digits")
    parser.add_argument("--fleet", type=Path, default=Path("config/fleet.toml"), metavar="FILE")
    parser.add_argument("--bearer", choices=("serial", "tetra", "mqtt"), default="mqtt")
    parser.add_argument(
        "--port",
        default="",
        help="mqtt: TCP port (1883); serial, tetra: a device, or the PTY to make",
    )
    parser.add_argument("--make", choices=tuple(MAKES), default="plain", help="tetra: whose radio")
    parser.add_argument("--air", choices=tuple(AIRS), default="near", help="tetra: its network")
    parser.add_argument("--baud", type=int, default=9600)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--user", default="", help="default: the ISSI, when there is a password")
    parser.add_argument("--password-file", type=Path, default=None, metavar="FILE")
    parser.add_argument(
        "--pki", type=Path, default=None, metavar="DIR", help="TLS, by its certificate in there"
    )
    parser.add_argument("--mqtt-version", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--prefix", default="radio")
    parser.add_argument("--area", choices=AREAS, default="", help="send fixes of a walk there")
    parser.add_argument("--once", default="", metavar="LINE", help='e.g. "V TE99ABC R1"')
    parser.add_argument("--wait", action="store_true", help="with --once: stay for the answer")
    parser.add_argument("--timeout", type=float, default=WAIT_S, metavar="S")
    parser.add_argument("--script", type=Path, default=None, metavar="FILE")


async def from_arguments(arguments: argparse.Namespace) -> int:
    """Run `terminal` as the command line says."""
    issi = arguments.issi
    if not issi:
        try:
            issi = issi_of(arguments.callsign or "E-102", arguments.fleet)
        except (OSError, ValueError, KeyError) as error:
            sys.stderr.write(f"{arguments.fleet}: {error}; give --issi, or --as with --fleet\n")
            return EXIT_USAGE
    return await terminal(
        issi=issi,
        callsign=arguments.callsign,
        bearer=arguments.bearer,
        make=arguments.make,
        air=arguments.air,
        port=arguments.port,
        baud=arguments.baud,
        host=arguments.host,
        username=arguments.user,
        password_file=arguments.password_file,
        pki=arguments.pki,
        version=arguments.mqtt_version,
        prefix=arguments.prefix,
        once=arguments.once,
        wait=arguments.wait,
        wait_s=arguments.timeout,
        script=arguments.script,
        area=arguments.area,
    )


def issi_of(callsign: str, fleet: Path) -> str:
    """The ISSI of a call-sign in a fleet file. Raises ValueError when it is not there."""
    for row in tomllib.loads(fleet.read_text("utf-8")).get("terminals", []):
        if row["callsign"] == callsign:
            return str(row["issi"])
    raise ValueError(f"no terminal {callsign}")
