"""Making heads: the tree goes on with each record that is durable, and now and then is signed.

The tree's frontier is kept beside the heads, so that a start reads the records since the newest
head and not all. It is only a memory: what does not fit a head that our key signed is not believed,
and the tree is built anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from adapters.ledger import signing
from adapters.ledger.heads import VERSION, Head, HeadsFile
from adapters.ledger.readers import hashes
from adapters.ledger.tree import Frontier
from gateway.ports import Clock

Headed = Callable[[bytes], None]
"""Told of each head that is written, from the writer's thread."""


class _Kept(msgspec.Struct, frozen=True):
    head: Head
    peaks: tuple[str, ...]


class HeadMaker:
    """The heads of one log. Made by `opening`; then it belongs to the writer's thread."""

    def __init__(
        self,
        folder: Path,
        log: str,
        *,
        clock: Clock,
        key_file: Path | None = None,
        headed: Headed | None = None,
    ) -> None:
        self._folder = folder
        self._log = log
        self._clock = clock
        self._key_file = key_file
        self._headed = headed
        self._file = HeadsFile(folder / "heads.jsonl", log)
        self._frontier = folder / "heads.frontier"
        self._keys: signing.Keys | None = None
        self._tree = Frontier()
        self._first = 1
        self._newest: Head | None = None
        self._known = False
        """Whether `_newest` is the file's: after a failed write it may be, or not."""

    def newest(self) -> Head | None:
        """Of the file. Raises OSError."""
        self._newest, self._known = self._file.newest(), True
        return self._newest

    def begin(self, db: Connection, seq: int) -> None:
        """The tree as it stands with the record `seq`, the ledger's last one. Raises DBAPIError."""
        kept = self._kept(db, seq)
        self._first, self._tree = kept or (1, Frontier())
        for number, leaf in hashes(db, self._log, self._last):
            if number != self._last + 1:
                self.begin_anew(number)
            self._tree.append(bytes.fromhex(leaf))

    def begin_anew(self, first: int) -> None:
        """A tree of its own: the records before `first` are not here."""
        self._first, self._tree = first, Frontier()

    def took(self, leaves: Iterable[str]) -> None:
        """The hashes of records that are durable now, in order."""
        for leaf in leaves:
            self._tree.append(bytes.fromhex(leaf))

    def change_of_key(self) -> str:
        """What must be put on record before the next head; "" when its key is the last one's.
        Raises OSError when there is none."""
        keys = self._keys = self._keys or signing.Keys(self._folder, self._key_file)
        before = self._newest.key if self._newest is not None else ""
        if before in ("", keys.current.id):
            _settle(keys)
            return ""
        how = "rotated" if keys.old is not None and keys.old.id == before else "lost"
        return f"{how} {before}, now {keys.current.id}"

    def append(self, seq: int, hash_: str) -> None:
        """Sign and write the head of the chain as it stands. Raises OSError."""
        if seq != self._last:
            raise OSError(f"the tree stands at {self._last}, the chain at {seq}")
        before = self._newest if self._known else self.newest()
        change = self.change_of_key()
        assert self._keys is not None
        head = self._signed(seq, hash_, before, self._keys, change)
        self._known = False
        self._file.append(head)
        self._newest, self._known = head, True
        _settle(self._keys)
        self._keep(head)
        if self._headed is not None:
            self._headed(head.line())

    def _signed(
        self, seq: int, hash_: str, before: Head | None, keys: signing.Keys, change: str
    ) -> Head:
        old = keys.old if change.startswith("rotated") else None
        head = Head(
            log=self._log,
            seq=seq,
            hash=hash_,
            v=VERSION,
            first=self._first,
            size=self._tree.size,
            root=self._tree.root().hex(),
            at_ms=self._clock.wall_ms(),
            key=keys.current.id,
            prev=before.digest() if before is not None and before.v else "",
            rotates=old.id if old is not None else "",
            lost=before.key if before is not None and change.startswith("lost") else "",
        )
        message = head.message()
        return msgspec.structs.replace(
            head,
            sig=keys.current.sign(message),
            old_sig=old.sign(message) if old is not None else "",
        )

    @property
    def _last(self) -> int:
        return self._first + self._tree.size - 1

    # ----------------------------------------------------------------- the kept frontier

    def _keep(self, head: Head) -> None:
        kept = _Kept(head, tuple(peak.hex() for peak in self._tree.peaks))
        part = self._frontier.with_name(self._frontier.name + ".part")
        # Without it the next start reads more records, and that is all.
        with contextlib.suppress(OSError):
            with open(part, "wb", opener=_for_us) as file:
                file.write(msgspec.json.encode(kept))
            part.replace(self._frontier)

    def _kept(self, db: Connection, seq: int) -> tuple[int, Frontier] | None:
        """The first record and frontier of the tree that the newest head signed, when the ledger
        still holds that head's record; None: build it anew."""
        try:
            kept = msgspec.json.decode(self._frontier.read_bytes(), type=_Kept)
            tree = Frontier(kept.head.size, [bytes.fromhex(peak) for peak in kept.peaks])
            public = signing.read_public([self._folder])
        except (OSError, msgspec.DecodeError, ValueError):
            return None
        head = kept.head
        believed = (
            head.log == self._log
            and head.seq <= seq
            and head.seq == head.first + head.size - 1
            and tree.sound()
            and tree.root().hex() == head.root
            and signing.signed(public, head.key, head.message(), head.sig)
        )
        if not believed:
            return None
        here = next((leaf for _, leaf in hashes(db, self._log, head.seq - 1, head.seq)), "")
        return (head.first, tree) if here == head.hash else None


def _settle(keys: signing.Keys) -> None:
    # What is left of a rotation is finished by the next start; the head stands.
    with contextlib.suppress(OSError):
        keys.settle()


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
