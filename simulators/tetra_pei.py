"""A TETRA radio's equipment interface (PEI), from the radio's side: AT commands in, answers out.

A state machine of its own, written from the protocol reference (section 1) and from nothing of the
gateway's: echo, verbose answers, numbered errors, the table of registered services, the parameters
of the next message, one message between `AT+CMGS` and Ctrl-Z. No I/O and no clock: bytes and times
come in, bytes go out. What makes and models differ in is `Habits`: data, as it is for the gateway.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from enum import IntEnum

import msgspec

from simulators.tetra_air import STATUS, Sdu

LINE_MOST = 512
DATA_MOST = 4096
USER_DATA_WITHIN_S = 10.0
CTRL_Z, ESC = 0x1A, 0x1B
SSI_MOST = 16777214


class Cme(IntEnum):
    """Errors of the reference's table that this radio has a reason for."""

    NOT_SENT = 0
    NOT_ALLOWED = 3
    NOT_SUPPORTED = 4
    STACK_FULL = 20
    TOO_LONG = 24
    BAD_CHARACTERS = 25
    OUT_OF_SERVICE = 30
    NO_LAYER_2_ACK = 31
    RANGE = 34
    SYNTAX = 35
    DATA_WITHOUT_COMMAND = 36
    NO_DATA = 37
    REGISTERED = 38
    TABLE_FULL = 39
    INHIBITED = 41
    BUSY = 42


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How one make speaks.

    blank: behind the colon of what it says. odd: an odd number of hex digits where the bits end
    within an octet, else padded to octets. fields: of a `+CTSDSR` (3, 4, 6 or 7). payload: on the
    `next` line, on the `same` one behind a comma, or `late`, by itself. prompt: whether it asks for
    the user data. strict: no messages before a service is registered. reboots: on ATZ. charsets:
    whether it knows +CSCS. digits: of a party's identity: 8 (a plain SSI, without leading zeros),
    15, 16 or 17. services: how many it can register. bits: of the longest message. babble: what
    stands on the line when it has started.
    """

    make: str
    model: str = "TEST"
    release: str = "1.0"
    blank: str = " "
    odd: bool = False
    fields: int = 6
    payload: str = "next"
    prompt: bool = False
    strict: bool = False
    reboots: bool = False
    charsets: bool = True
    digits: int = 8
    services: int = 16
    bits: int = 1184
    babble: bytes = b""
    boot_s: float = 4.0
    late_s: float = 0.5
    home: str = "02340001400000000"
    """17 digits of whose network it is; the SSI in it is not looked at."""


PLAIN = Habits(make="PLAIN")
MOTOROLA_LIKE = Habits(
    make="MOTOROLA",
    model="54009,M83PFT6TZ6AG,91.2.0.0",
    release="R27.220.9063",
    babble=b"\x00\xff\r\n+CTOM: 0\r\n\r\n+CREG: 0\r\n",
)
SEPURA_LIKE = Habits(
    make="SEPURA",
    model="STP9040",
    blank="",
    odd=True,
    fields=7,
    prompt=True,
    strict=True,
    reboots=True,
    charsets=False,
    services=12,
    babble=b"CME ERROR: 35\r\n\r\n+CME ERROR: 35\r\n",
)
MAKES = {"plain": PLAIN, "motorola": MOTOROLA_LIKE, "sepura": SEPURA_LIKE}


class Sent(msgspec.Struct, frozen=True):
    """A message that the terminal accepted. party: digits, as the gateway wrote them."""

    instance: int
    party: str
    sdu: Sdu


_COMMAND = re.compile(r"AT(?:([EVZ&FI])(\d?)|\+([A-Z]+)(=\?|\?|=(.*))?)?", re.IGNORECASE)


class Pei:
    """One radio's interface. Feed it what the gateway wrote; take `due` when time has gone on.

    The air is somebody else's: what was accepted stands in `outbox`, `outcome` tells what became of
    it, `deliver` what came for the gateway.
    """

    def __init__(self, habits: Habits, *, ssi: int = 6_000_001) -> None:
        self.habits = habits
        self.ssi = ssi
        self.outbox: deque[Sent] = deque()
        """Accepted and not yet taken by the network; whoever plays that empties it."""
        self.counts: Counter[str] = Counter()
        """What happened, by name: `cme 38`, `not routed`, `overlapping` ..."""
        self.creg, self.ctom = 1, 0
        self.refuse: Callable[[], Cme | None] = lambda: None
        """Asked for each message: what the radio or its network has against it just now."""
        self.inhibited = False
        self._up_at_s: float | None = None
        self._late: deque[tuple[float, bytes]] = deque()
        self._forget()

    def _forget(self) -> None:
        """As it is switched on: whatever a gateway said to it is gone."""
        self.echo, self.verbose, self.cmee = True, True, False
        self.registered: dict[tuple[int, int], int] = {}
        self.parameters: tuple[int, int] | None = None
        self.on_air: dict[int, Sent] = {}
        """Accepted, its outcome not yet said."""
        self.outbox.clear()
        self._late.clear()
        self._line = bytearray()
        self._data: bytearray | None = None
        self._waiting: tuple[str, int] = ("", 0)
        self._data_until_s = 0.0
        self._instance = 0

    # ----------------------------------------------------------------- switched on and off

    @property
    def up(self) -> bool:
        return self._up_at_s is None

    def boot(self, now_s: float) -> None:
        """Off and on again: deaf and dumb for a while, then without a memory."""
        self.counts["boots"] += 1
        self._forget()
        self._up_at_s = now_s + self.habits.boot_s

    def due(self, now_s: float) -> bytes:
        """What time has brought."""
        out = b""
        if self._up_at_s is not None and now_s >= self._up_at_s:
            self._up_at_s = None
            out += self.habits.babble + self._said("+CREG", str(self.creg))
        if self._data is not None and now_s >= self._data_until_s:
            self._data = None
            out += self._error(Cme.NO_DATA)
        while self._late and self._late[0][0] <= now_s:
            out += self._late.popleft()[1]
        return out

    # ----------------------------------------------------------------- what the gateway wrote

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Any slice of it; what the radio says to that."""
        if not self.up:
            return b""
        out = bytearray()
        for byte in data:
            if self._data is not None:
                out += self._user_data(byte)
            else:
                out += self._typed(byte, now_s)
            if self._up_at_s is not None:  # ATZ in the middle: nobody hears the rest
                break
        return bytes(out)

    def _typed(self, byte: int, now_s: float) -> bytes:
        out = bytes([byte]) if self.echo and byte not in (0x0A, CTRL_Z, ESC) else b""
        if byte == CTRL_Z:
            self._line.clear()
            return out + self._error(Cme.DATA_WITHOUT_COMMAND)
        if byte == 0x0D:
            line = self._line.decode("ascii", "replace").strip()
            self._line.clear()
            return out + (self._command(line, now_s) if line else b"")
        if byte >= 0x20 and len(self._line) < LINE_MOST:
            self._line.append(byte)
        return out

    def _command(self, line: str, now_s: float) -> bytes:
        self.counts["commands"] += 1
        found = _COMMAND.fullmatch(line)
        if found is None:
            return self._error(Cme.SYNTAX)
        letter, figure, name, asked, value = found.groups()
        if letter:
            return self._basic(letter.upper(), figure or "0", now_s)
        if not name:
            return self._ok()
        return self._extended(name.upper(), asked or "", value or "", now_s)

    def _basic(self, letter: str, figure: str, now_s: float) -> bytes:
        match letter:
            case "E":
                self.echo = figure == "1"
            case "V":
                self.verbose = figure == "1"
            case "Z" if self.habits.reboots:
                self.boot(now_s)
                return b""
            case "Z" | "F" | "&":
                self.echo, self.verbose = True, True
            case _:
                return self._error(Cme.NOT_SUPPORTED)
        return self._ok()

    def _extended(self, name: str, asked: str, value: str, now_s: float) -> bytes:
        habits = self.habits
        match name, asked[:2]:
            case ("CMEE", "=0" | "=1" | "=2"):
                self.cmee = value != "0"
                return self._ok()
            case ("GMI" | "GMM" | "GMR", "" | "?"):
                told = {"GMI": habits.make, "GMM": habits.model, "GMR": habits.release}[name]
                return self._answer(name, told)
            case ("CNUMF", "?"):
                return self._answer(name, f"6,{habits.home[:9]}{self.ssi:08d}")
            case ("CREG", "?"):
                return self._answer(name, str(self.creg))
            case ("CTOM", "?"):
                return self._answer(name, str(self.ctom))
            case ("CSQ", "?" | ""):
                return self._answer(name, "22,99")
            case ("CSCS", _) if habits.charsets:
                return self._ok()
            case ("CTSP", "?"):
                rows = [f"{p},{layer},{second}" for (layer, second), p in self.registered.items()]
                return b"".join(self._said("+CTSP", row) for row in rows) + self._ok()
            case ("CTSP", "=?"):
                return self._answer(name, "(0-3),(0-3),(0-255)")
            case ("CTSP", _) if asked:
                return self._register(value)
            case ("CTSDS", "?"):
                return self._answer(name, ",".join(map(str, self.parameters or ())))
            case ("CTSDS", _) if asked and asked != "=?":
                return self._prepare(value)
            case ("CMGS", "=?"):
                party = f"(0-{SSI_MOST},00000001-10231638316777214)"
                return self._answer(name, f"{party},(8-{habits.bits})")
            case ("CMGS", _) if asked not in ("", "?"):
                return self._begin(value, now_s)
            case _:
                return self._error(Cme.SYNTAX)

    # ----------------------------------------------------------------- services and parameters

    def _register(self, value: str) -> bytes:
        fields = value.split(",")
        if not 2 <= len(fields) <= 5 or not all(each.strip().isdecimal() for each in fields[:3]):
            return self._error(Cme.SYNTAX)
        profile, layer = int(fields[0]), int(fields[1])
        second = int(fields[2]) if len(fields) > 2 else 0
        if profile > 3 or layer > 3 or second > 255:
            return self._error(Cme.RANGE)
        if self.registered.get((layer, second)) == profile:
            return self._error(Cme.REGISTERED)
        if (layer, second) not in self.registered and len(self.registered) >= self.habits.services:
            return self._error(Cme.TABLE_FULL)
        self.registered[layer, second] = profile
        return self._ok()

    def routed(self, sdu: Sdu) -> bool:
        """Whether such a message goes to the gateway, and not to the radio's own screen alone."""
        if sdu.service == STATUS:
            keys = [(2, 20)]
        elif sdu.service != 12:
            keys = [(2, 12 + sdu.service)]
        else:
            pid = sdu.data[0] if sdu.data else 0
            half = 25 if pid >= 0x80 else 24
            keys = [(3, pid), (2, half), (3, half)]
        return any(self.registered.get(key) in (1, 2) for key in keys)

    def _prepare(self, value: str) -> bytes:
        fields = [each.strip() for each in value.split(",")]
        if not 2 <= len(fields) <= 5 or not all(each.isdecimal() for each in fields if each):
            return self._error(Cme.SYNTAX)
        if not fields[0] or not 9 <= int(fields[0]) <= 13 or int(fields[1] or "0") > 5:
            return self._error(Cme.RANGE)
        self.parameters = int(fields[0]), int(fields[1] or "0")
        return self._ok()

    # ----------------------------------------------------------------- one message out

    def _begin(self, value: str, now_s: float) -> bytes:
        party, _, bits = (each.strip() for each in value.partition(","))
        if not party.isdecimal() or not bits.isdecimal():
            return self._error(Cme.SYNTAX)
        if self.habits.strict and not self.registered:
            return self._error(Cme.NOT_ALLOWED)
        if self.parameters is None:
            return self._error(Cme.NOT_ALLOWED)
        service, kind = self.parameters
        plain = len(party) <= 8
        if plain != (kind == 0) or not 1 <= int(party[-8:]) <= SSI_MOST:
            return self._error(Cme.RANGE)
        if not 8 <= int(bits) <= self.habits.bits or (service == STATUS) != (bits == "16"):
            # 16 bits of SDS-4 hold no more than a PID and one octet: nobody means that.
            return self._error(Cme.RANGE)
        self._waiting = party, int(bits)
        self._data = bytearray()
        self._data_until_s = now_s + USER_DATA_WITHIN_S
        return b"\r\n> " if self.habits.prompt else b""

    def _user_data(self, byte: int) -> bytes:
        assert self._data is not None
        if byte == ESC:
            self._data = None
            self.counts["aborted"] += 1
            return self._ok()
        if byte != CTRL_Z:
            if byte > 0x20 and len(self._data) < DATA_MOST:
                self._data.append(byte)
            return b""
        digits, self._data = self._data.decode("ascii", "replace"), None
        return self._accept(*self._waiting, digits)

    def _accept(self, party: str, bits: int, digits: str) -> bytes:
        if re.fullmatch(r"[0-9A-F]*", digits) is None:
            return self._error(Cme.BAD_CHARACTERS)
        if len(digits) not in {-(-bits // 4), 2 * -(-bits // 8)}:
            return self._error(Cme.RANGE)
        refused = self.refuse()
        if refused is not None:
            return self._error(refused)
        if self.inhibited:
            return self._error(Cme.INHIBITED)
        if self.creg not in (1, 5):
            return self._error(Cme.OUT_OF_SERVICE)
        if self.on_air:
            # A gateway keeps one message in flight; this one did not.
            self.counts["overlapping"] += 1
            return self._error(Cme.BUSY)
        assert self.parameters is not None
        instance = self._instance
        self._instance = (instance + 1) % 256
        data = bytes.fromhex(digits + "0" * (len(digits) % 2))
        sent = Sent(instance, party, Sdu(self.parameters[0], data, bits))
        self.on_air[instance] = sent
        self.outbox.append(sent)
        self.counts["accepted"] += 1
        return self._said("+CMGS", str(instance)) + self._ok()

    def outcome(self, instance: int, sent: bool, reference: int) -> bytes:
        """The air's word on a message: 4 sent, 5 failed. Nothing for one that a boot forgot."""
        if not self.up or self.on_air.pop(instance, None) is None:
            return b""
        word = 4 if sent else 5
        return self._said("+CMGS", f"{instance},{word},{reference}")

    def forget_outcome(self, instance: int) -> None:
        """The air's word is lost within the radio: it can send again, and says nothing."""
        self.on_air.pop(instance, None)

    # ----------------------------------------------------------------- messages in

    def deliver(self, calling: int, sdu: Sdu, now_s: float, called: int | None = None) -> bytes:
        """What the air brought for this radio, as it is told to the gateway."""
        if not self.up:
            self.counts["deaf"] += 1
            return b""
        if not self.routed(sdu):
            self.counts["not routed"] += 1
            return b""
        header = self._header(calling, self.ssi if called is None else called, sdu)
        digits = self._digits(sdu)
        self.counts["delivered"] += 1
        colon = f"+CTSDSR:{self.habits.blank}"
        match self.habits.payload:
            case "same":
                return f"\r\n{colon}{header},{digits}\r\n".encode()
            case "late":
                # One after the other: no radio says a second header before the first one's payload.
                at_s = max(now_s, self._late[-1][0]) if self._late else now_s
                said = f"\r\n{colon}{header}\r\n".encode()
                self._late.append((at_s, said))
                self._late.append((at_s + self.habits.late_s, f"{digits}\r\n".encode()))
                return self.due(now_s)
            case _:
                return f"\r\n{colon}{header}\r\n{digits}\r\n".encode()

    def _header(self, calling: int, called: int, sdu: Sdu) -> str:
        kind = "0" if self.habits.digits == 8 else "1"
        us, them = self._party(called), self._party(calling)
        match self.habits.fields:
            case 3:
                fields = [us, str(sdu.bits)]
            case 4:
                fields = [us, kind, str(sdu.bits)]
            case 6:
                fields = [them, kind, us, kind, str(sdu.bits)]
            case _:
                fields = [them, kind, us, kind, str(sdu.bits), "0"]
        return ",".join([str(sdu.service), *fields])

    def _party(self, ssi: int) -> str:
        home = self.habits.home
        mcc, mnc = home[1:4], home[4:9]
        match self.habits.digits:
            case 15:
                return f"{mcc}{mnc[1:]}{ssi:08d}"
            case 16:
                return f"{mcc}{mnc}{ssi:08d}"
            case 17:
                return f"{home[:9]}{ssi:08d}"
            case _:
                return str(ssi)

    def _digits(self, sdu: Sdu) -> str:
        digits = sdu.data.hex().upper()
        return digits[: -(-sdu.bits // 4)] if self.habits.odd else digits

    # ----------------------------------------------------------------- by itself

    def network(self, creg: int) -> bytes:
        """Coverage comes or goes."""
        self.creg = creg
        return self._said("+CREG", str(creg)) if self.up else b""

    def mode(self, ctom: int) -> bytes:
        """Somebody turned the knob: trunked or direct mode."""
        self.ctom = ctom
        return self._said("+CTOM", str(ctom)) if self.up else b""

    def voice(self, calling: int) -> bytes:
        """A call begins; nobody asked."""
        party = f"{self.habits.home[:9]}{calling:08d}"
        return self._said("+CTICN", f"0,0,0,5,{party},1,1,0,1,1,5,{self.habits.home},0")

    # ----------------------------------------------------------------- words

    def _said(self, name: str, value: str) -> bytes:
        return f"\r\n{name}:{self.habits.blank}{value}\r\n".encode("latin-1")

    def _answer(self, name: str, value: str) -> bytes:
        return self._said(f"+{name}", value) + self._ok()

    def _ok(self) -> bytes:
        return b"\r\nOK\r\n" if self.verbose else b"0\r"

    def _error(self, number: Cme) -> bytes:
        self.counts[f"cme {number.value}"] += 1
        if self.cmee:
            return self._said("+CME ERROR", str(number.value))
        return b"\r\nERROR\r\n" if self.verbose else b"4\r"
