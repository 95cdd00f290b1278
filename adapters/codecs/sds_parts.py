"""Messages that come in parts: put together once, whole, from what belongs together, or lost.

Parts come in any order, twice, late or not at all, and a reference of 4 or 8 bits comes again: for
a radio that was restarted in the midst of a message, soon. So what is held under a reference is
given up, and told, when a part comes that contradicts it: the same place with another content, or a
message reference (which runs on from part to part) out of step. Copies of what was put together
make nothing. Sans-IO: the caller passes the time.
Source: reference radio-protocols, 2.3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.messages import Value

WITHIN_MS = 60_000
"""From one part to the next; then the message is lost."""
MESSAGES_MOST = 4
"""Of one terminal at once, those that were put together lately as well."""
PARTS_MOST = 16
BYTES_MOST = 1024
"""KeySDS takes 79 characters."""
OUT_OF_STEP = 8
"""So far a message reference may be from where its place says: something else was sent between."""


class Part(Value, frozen=True):
    """One part as it came. kind: the PID. name: the reference, opaque octets. step: the message
    reference of the PDU that held it. place: 1 and up. coding: of its text."""

    kind: int
    name: bytes
    total: int
    place: int
    step: int
    data: bytes
    coding: int = 0


class Lost(Value, frozen=True):
    """A message of which parts never came. first: its first part, when that did."""

    first: Part | None


class Gathered(Value, frozen=True):
    """What a part made: nothing yet, the whole message (parts in their order), or one of the
    reasons why it makes none (FRAME_REASONS)."""

    whole: tuple[Part, ...] = ()
    refused: str = ""


WAITS = Gathered()
COPY = Gathered(refused="duplicate")


class _Message:
    """No repr: what is in it may be a factor."""

    __slots__ = ("at_ms", "done", "parts")

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.at_ms = 0
        self.done = False

    def contradicts(self, part: Part) -> bool:
        known = self.parts.get(part.place)
        if known is not None:
            # Of what is done with, only what came itself comes again.
            return known.data != part.data or (self.done and known.step != part.step)
        return any(not _in_step(other, part) for other in self.parts.values())


def _in_step(one: Part, other: Part) -> bool:
    """A sender that counts counts on from part to part; one that does not is taken at its word."""
    if one.step == other.step:
        return True
    off = (other.step - one.step - (other.place - one.place)) & 0xFF
    return min(off, 256 - off) <= OUT_OF_STEP


class Gatherer:
    """The messages in parts of one terminal. Bounded in messages, parts and octets."""

    def __init__(self) -> None:
        self._messages: OrderedDict[tuple[int, bytes, int], _Message] = OrderedDict()
        self._lost: list[Lost] = []

    def take(self, part: Part, now_ms: int) -> Gathered:
        """What this part makes; whatever that is, something may be lost by it."""
        self.lapse(now_ms)
        if not 1 <= part.place <= part.total:
            return Gathered(refused="decode")
        if part.total > PARTS_MOST:
            return Gathered(refused="length")
        key = part.kind, part.name, part.total
        message = self._messages.get(key)
        if message is not None and message.contradicts(part):
            self._give_up(key)
            message = None
        if message is None:
            message = self._messages[key] = _Message()
        copy = part.place in message.parts
        # A copy with another message reference was sent again: the others will be in step with it.
        message.parts[part.place] = part
        message.at_ms = now_ms
        self._messages.move_to_end(key)
        if sum(len(each.data) for each in message.parts.values()) > BYTES_MOST:
            del self._messages[key]
            return Gathered(refused="length")
        while len(self._messages) > MESSAGES_MOST:
            self._give_up(next(iter(self._messages)))
        if copy:
            return COPY
        if len(message.parts) < part.total:
            return WAITS
        message.done = True
        return Gathered(whole=tuple(message.parts[at] for at in range(1, part.total + 1)))

    def lapse(self, now_ms: int) -> None:
        """Give up what waited too long, and forget what was put together long ago."""
        for key, message in list(self._messages.items()):
            if now_ms - message.at_ms >= WITHIN_MS:
                self._give_up(key)

    def lost(self) -> Sequence[Lost]:
        """What was given up since this was last asked."""
        lost, self._lost = self._lost, []
        return lost

    @property
    def next_ms(self) -> int | None:
        """When the next one lapses; None when none is waiting."""
        waiting = [each.at_ms for each in self._messages.values() if not each.done]
        return min(waiting) + WITHIN_MS if waiting else None

    def _give_up(self, key: tuple[int, bytes, int]) -> None:
        message = self._messages.pop(key)
        if not message.done:
            self._lost.append(Lost(message.parts.get(1)))


def cut(text: str, fits: Callable[[str], bool], *, words: bool = False) -> list[str]:
    """Pieces of which each fits, as long as they go. words: each stands by itself, so none ends
    within a word if it can be helped, and the blank between two is left out."""
    pieces: list[str] = []
    while text and not fits(text):
        low, high = 1, len(text)
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(text[:middle]) else (low, middle)
        end = low
        if words and text[end] != " " and (blank := text.rfind(" ", 0, end)) > 0:
            end = blank
        pieces.append(text[:end])
        text = text[end:].lstrip(" ") if words else text[end:]
    return [*pieces, text] if text or not pieces else pieces
