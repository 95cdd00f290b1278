"""The officer's side of a conversation, without I/O: what was asked, what came back, what is due.

Rules: a question has SENT_WITHIN_S to be acknowledged by the gateway, else the officer uses the
voice channel; each part is acknowledged as delivered at once and as read after a think time;
a machine-made request is repeated, same reference and same time, until its receipt comes.
Whoever owns the bearer calls `ask`, `heard` and `due` with the time, and sends what they return.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import msgspec

from gateway.messages import (
    AckState,
    BadFrame,
    CheckRequest,
    Decoded,
    DeliveryAck,
    Kind,
    Notice,
    Outcome,
    Receipt,
    Result,
    StatusReport,
    TextPart,
    Uplink,
    kind_of,
)

SENT_WITHIN_S = 5.0
"""The officer's card: no SENT in 5 s = not received: use voice."""
RESEND_S = 2.0
RESENDS_MOST = 10
EXCHANGES_MOST = 500
READS_MOST = 64
MESSAGE = "MSG: "
"""How what the control room writes begins: it answers no question."""
NOTES_MOST = 1000
FREE = 15
"""The status that says so."""
FREE_TO_SPEAK = f"ACK {FREE}"
"""How a prompt ends, on every bearer."""


class Reading(StrEnum):
    """What the officer knows at the end. NO ANSWER is never "no trace"."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"
    REFUSED = "refused"


class Exchange(msgspec.Struct, kw_only=True, eq=False):
    """One question and what became of it. Times are monotonic seconds; None: not yet."""

    request: CheckRequest
    asked_at_s: float
    sent_at_s: float
    """When it was last put on the air."""
    receipt_at_s: float | None = None
    done_at_s: float | None = None
    check: str = ""
    short: str = ""
    reading: Reading | None = None
    outcome: Outcome | None = None
    result_class: str = ""
    why: str = ""
    parts: int = 0
    pages: dict[int, str] = {}
    voice: bool = False
    resends: int = 0
    repeats: int = 0
    """How often a part came again."""

    @property
    def kind(self) -> Kind:
        return kind_of(self.request.key)

    @property
    def open(self) -> bool:
        return self.done_at_s is None

    def text(self) -> list[str]:
        """What is on the screen, part by part; a part that has not come is missing."""
        return [self.pages[n] for n in sorted(self.pages)]

    def screen(self) -> list[str]:
        """What the officer reads, part by part; a refusal without a part by its words; empty:
        nothing has come yet."""
        return self.text() or ([f"XX {self.why}"] if self.why else [])


class Note(msgspec.Struct, frozen=True):
    """One line of the trace. way: `>` said, `<` heard, `!` what the officer makes of it."""

    at_s: float
    way: str
    what: str
    short: str = ""


def reading_of(text: str) -> Reading:
    """What the first two characters of an answer mean (console design, 18.1 rule 1)."""
    words = text.lstrip()
    if words.startswith("XX"):
        return Reading.REFUSED
    if words.startswith("??NO ANSWER"):
        return Reading.NO_ANSWER
    return Reading.ANSWERED


class Handset:
    """Keeps the questions of one terminal, newest last, and says what is due."""

    def __init__(self, *, resends: bool, think_s: float = 2.0) -> None:
        """resends: repeat a request until its receipt (MQTT); a line terminal does not."""
        self._resends = resends
        self._think_s = think_s
        self.exchanges: deque[Exchange] = deque(maxlen=EXCHANGES_MOST)
        self.notes: deque[Note] = deque(maxlen=NOTES_MOST)
        self.notices: deque[Notice] = deque(maxlen=NOTES_MOST)
        self.unmatched = 0
        """Answers that fit no question of ours: must stay 0."""
        self._messages: deque[str] = deque(maxlen=NOTES_MOST)
        """Short forms of what the control room wrote, as a line says them."""
        self.bad_frames = 0
        self._reads: deque[tuple[float, DeliveryAck]] = deque(maxlen=READS_MOST)

    def ask(self, request: CheckRequest, now_s: float) -> Exchange:
        """Remember a question; the caller puts it on the air."""
        exchange = Exchange(request=request, asked_at_s=now_s, sent_at_s=now_s)
        self.exchanges.append(exchange)
        self._note(now_s, ">", f"check {exchange.kind}")
        return exchange

    def heard(self, message: Decoded, now_s: float) -> list[Uplink]:
        """Take what came; return what must be said to it at once."""
        match message:
            case Receipt():
                self._receipt(message, now_s)
            case TextPart():
                return self._part(message, now_s)
            case Result():
                return self._result(message, now_s)
            case Notice(kind="message"):
                self.notices.append(message)
                self._note(now_s, "<", "message", message.short)
                return self._acknowledge(message.id or message.short, 1, now_s)
            case Notice():
                self.notices.append(message)
                self._note(now_s, "<", f"notice {message.kind}", message.short)
                self._refused_aloud(message, now_s)
                if message.text.endswith(FREE_TO_SPEAK):
                    self._note(now_s, ">", "free to speak", message.short)
                    return [StatusReport(code=FREE)]
            case BadFrame():
                self.bad_frames += 1
            case _:
                self.unmatched += 1
        return []

    def due(self, now_s: float) -> list[Uplink]:
        """What time has brought: a read, a repeat, a missed receipt."""
        out: list[Uplink] = []
        while self._reads and self._reads[0][0] <= now_s:
            ack = self._reads.popleft()[1]
            out.append(ack)
            self._note(now_s, ">", "read", ack.check)
        for exchange in self.exchanges:
            if exchange.receipt_at_s is not None or not exchange.open:
                continue
            if not exchange.voice and now_s - exchange.asked_at_s >= SENT_WITHIN_S:
                exchange.voice = True
                self._note(now_s, "!", "no SENT: use voice")
            if (
                self._resends
                and exchange.resends < RESENDS_MOST
                and now_s - exchange.sent_at_s >= RESEND_S
            ):
                exchange.resends += 1
                exchange.sent_at_s = now_s
                out.append(exchange.request)
                self._note(now_s, ">", f"check {exchange.kind} again")
        return out

    def read_now(self, now_s: float) -> list[Uplink]:
        """The officer pressed OK: everything that is on the screen is read."""
        self._reads = deque(((now_s, ack) for _, ack in self._reads), maxlen=READS_MOST)
        return self.due(now_s)

    # ----------------------------------------------------------------- what came

    def _receipt(self, receipt: Receipt, now_s: float) -> None:
        exchange = self._asked(receipt.ref, receipt.client_ref)
        if exchange is None:
            self.unmatched += 1
            return
        if exchange.receipt_at_s is None:
            exchange.receipt_at_s = now_s
        exchange.check, exchange.short = receipt.check, receipt.short
        if receipt.accepted:
            self._note(now_s, "<", "SENT", receipt.short)
            return
        self._note(now_s, "<", "refused", receipt.short)
        exchange.why = receipt.why
        self._close(exchange, Reading.REFUSED, now_s)

    def _refused_aloud(self, notice: Notice, now_s: float) -> None:
        """`XX BUSY RETRY` without a reference, as a line says it: the question that still waits."""
        waiting = None if notice.short else self._asked("", "")
        if waiting is not None and notice.text.startswith("XX"):
            waiting.receipt_at_s = now_s
            waiting.why = notice.text.removeprefix("XX").strip()
            self._close(waiting, Reading.REFUSED, now_s)

    def _asked(self, ref: str, client_ref: str) -> Exchange | None:
        """The question that a receipt means: by its reference, else the oldest without one."""
        if ref or client_ref:
            for exchange in reversed(self.exchanges):
                request = exchange.request
                if (ref and request.ref == ref) or (
                    client_ref and request.client_ref == client_ref
                ):
                    return exchange
            return None
        for exchange in self.exchanges:
            if exchange.receipt_at_s is None:
                return exchange
        return None

    def _answered(self, check: str, short: str, ref: str, client_ref: str) -> Exchange | None:
        """The question that an answer means; its receipt may have been lost on the way.

        Our own references come before the short form: that is only the end of the gateway's id.
        """
        for exchange in reversed(self.exchanges):
            if check and exchange.check == check:
                return exchange
        if ref or client_ref:
            return self._asked(ref, client_ref)
        for exchange in reversed(self.exchanges):
            if short and exchange.short == short:
                return exchange
        return self._asked("", "")

    def _part(self, part: TextPart, now_s: float) -> list[Uplink]:
        if part.text.startswith(MESSAGE) or part.short in self._messages:
            self._messages.append(part.short)
            self._note(now_s, "<", f"message {part.part}/{part.parts}", part.short)
            return self._acknowledge(part.short, part.part, now_s)
        exchange = self._answered("", part.short, "", part.client_ref)
        if exchange is None:
            self.unmatched += 1
            return []
        exchange.short = exchange.short or part.short
        exchange.parts = part.parts
        self._note(now_s, "<", f"{part.part}/{part.parts}", part.short)
        self._page(exchange, part.part, part.text)
        if len(exchange.pages) >= part.parts and exchange.open:
            self._close(exchange, reading_of(exchange.pages.get(1, "")), now_s)
        return self._acknowledge(part.short, part.part, now_s)

    def _result(self, result: Result, now_s: float) -> list[Uplink]:
        exchange = self._answered(result.check, result.short, result.ref, result.client_ref)
        if exchange is None:
            self.unmatched += 1
            return []
        exchange.check = result.check
        exchange.short = result.short or exchange.short
        exchange.outcome = result.outcome
        exchange.result_class = result.result_class
        exchange.why = result.why
        pages = result.pages or result.texts
        exchange.parts = max(1, len(pages))
        self._note(now_s, "<", str(result.outcome), exchange.short)
        for number, page in enumerate(pages, start=1):
            self._page(exchange, number, page)
        if exchange.open:
            self._close(exchange, _reading_of_outcome(result.outcome), now_s)
        return self._acknowledge(result.check, 1, now_s)

    def _page(self, exchange: Exchange, number: int, text: str) -> None:
        if number in exchange.pages:
            exchange.repeats += 1
        exchange.pages[number] = text

    def _close(self, exchange: Exchange, reading: Reading, now_s: float) -> None:
        exchange.done_at_s = now_s
        exchange.reading = reading

    def _acknowledge(self, check: str, part: int, now_s: float) -> list[Uplink]:
        """Delivered now (again, when it came again: our first word may be lost); read later."""
        read = DeliveryAck(check=check, part=part, state=AckState.READ)
        if all(ack != read for _, ack in self._reads):
            self._reads.append((now_s + self._think_s, read))
        self._note(now_s, ">", "delivered", check)
        return [DeliveryAck(check=check, part=part, state=AckState.DELIVERED)]

    def _note(self, now_s: float, way: str, what: str, short: str = "") -> None:
        self.notes.append(Note(now_s, way, what, short))


def _reading_of_outcome(outcome: Outcome) -> Reading:
    match outcome:
        case Outcome.ANSWERED:
            return Reading.ANSWERED
        case Outcome.REFUSED:
            return Reading.REFUSED
        case Outcome.EXPIRED | Outcome.FAILED:
            return Reading.NO_ANSWER
