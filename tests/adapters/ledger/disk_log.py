"""What a process did to the files of one folder, read from strace; and what a power cut leaves.

Shares no code with the product: the system calls are the record. A disk that loses power keeps
what was synced, and of each write after that all, nothing, or some of its sectors; of the names
that were made or removed since the folder was synced, a first few (a journal keeps their order).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

SECTOR = 512
KEPT = 0.5
"""An unsynced write is on the disk with this chance ..."""
TORN = 0.3
"""... and with this one only some of its sectors are."""
CALLS = "pwrite64,write,ftruncate,fallocate,fdatasync,fsync,unlink,unlinkat,rename,openat"
STRACE = ("-f", "-y", "-xx", "-s", "70000", "--seccomp-bpf", "-qq", "-e", "signal=none")
"""Options for a trace that `DiskLog` can read, with `-e trace=CALLS -o FILE` behind them."""

_STRING = r'"((?:\\x[0-9a-f]{2})*)"'
_FD = r"(-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?"
_WRITE = re.compile(rf"p?write(?:64)?\({_FD}, {_STRING}, \d+(?:, (\d+))?\) = (-?\d+)")
_SIZE = re.compile(rf"ftruncate\({_FD}, (\d+)\) = 0")
_ROOM = re.compile(rf"fallocate\({_FD}, 0, (\d+), (\d+)\) = 0")
_SYNC = re.compile(rf"f(?:data)?sync\({_FD}\) = 0")
_OPEN = re.compile(rf"openat\([^\"]*{_STRING}, ([A-Z_|]+)(?:, \d+)?\) = (\d+)<")
_UNLINK = re.compile(rf"unlink(?:at)?\((?:[^\"]*, )?{_STRING}(?:, [^)]*)?\) = 0")
_RENAME = re.compile(rf"rename\({_STRING}, {_STRING}\) = 0")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")


def _bytes(text: str | None) -> bytes:
    return bytes.fromhex((text or "").replace("\\x", ""))


class _File:
    """One inode: what is surely on the disk, and what was done to it since."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.since: list[tuple[int, bytes | None]] = []
        """(offset, data), or (size, None) for a truncation or an extension."""
        self.size = 0
        """As the process sees it: where an append goes."""

    def put(self, offset: int, data: bytes | None) -> None:
        self.since.append((offset, data))
        self.size = offset if data is None else max(self.size, offset + len(data))

    def sync(self, number: int) -> None:
        """The first `number` changes are on the disk."""
        for offset, data in self.since[:number]:
            _apply(self.durable, offset, data)
        del self.since[:number]

    def after_a_cut(self, chance: random.Random) -> bytes:
        left = bytearray(self.durable)
        for offset, data in self.since:
            if chance.random() >= KEPT:
                continue
            if data is None or chance.random() >= TORN:
                _apply(left, offset, data)
                continue
            for at in range(0, len(data), SECTOR):
                if chance.random() < 0.5:
                    _apply(left, offset + at, data[at : at + SECTOR])
        return bytes(left)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset if data is None else offset + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:end] = data


class DiskLog:
    """Goes through a trace step by step. After each step: `said` is what stdout had by then, and
    `after_a_cut` what a power cut at this moment leaves of the folder.

    Only files whose name begins with one of `names` are kept; the others are not ours.
    """

    def __init__(self, trace: Path, folder: Path, names: tuple[str, ...]) -> None:
        self._trace = trace
        self._folder = str(folder)
        self._names = names
        self._here: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._renamed: list[tuple[str, _File | None]] = []
        """Names made (with their file) or removed (None) since the folder was synced."""
        self._begun: dict[str, tuple[str, int]] = {}
        self._appends: set[str] = set()
        self.said: list[str] = []
        self._line = b""
        self.steps = 0

    def __iter__(self) -> Iterator[int]:
        """The number of each step that changed the folder, or said something."""
        with self._trace.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                pid, _, call = line.rstrip("\n").partition(" ")
                call = call.lstrip()
                if call.endswith(_UNFINISHED):
                    begun = call.removesuffix(_UNFINISHED)
                    self._begun[pid] = (begun, self._unsynced(begun))
                    continue
                unsynced = -1
                if resumed := _RESUMED.match(call):
                    begun, unsynced = self._begun.pop(pid, ("", -1))
                    call = begun + call[resumed.end() :].replace(" ) =", ") =")
                if self._step(re.sub(r"\s+= ", " = ", call, count=1), unsynced):
                    self.steps += 1
                    yield self.steps

    def _unsynced(self, begun: str) -> int:
        """How many changes a sync that begins now covers: what comes while it runs is not."""
        found = re.match(rf"f(?:data)?sync\({_FD}", begun)
        name = self._name(_bytes(found[2])) if found else None
        return len(self._here[name].since) if name in self._here else -1

    def _name(self, path: bytes) -> str | None:
        folder, _, name = path.decode(errors="replace").rpartition("/")
        return name if folder == self._folder and name.startswith(self._names) else None

    def _step(self, call: str, unsynced: int) -> bool:
        if found := _WRITE.match(call):
            return self._wrote(found)
        if found := _SYNC.match(call):
            return self._synced(_bytes(found[2]), unsynced)
        if found := _SIZE.match(call):
            return self._put(self._name(_bytes(found[2])), int(found[3]), None)
        if found := _ROOM.match(call):
            name = self._name(_bytes(found[2]))
            size = int(found[3]) + int(found[4])
            if name is None or size <= self._here[name].size:
                return False
            return self._put(name, size, None)
        if found := _OPEN.match(call):
            return self._opened(self._name(_bytes(found[1])), found[2])
        if found := _UNLINK.match(call):
            return self._unnamed(self._name(_bytes(found[1])))
        if found := _RENAME.match(call):
            before, after = self._name(_bytes(found[1])), self._name(_bytes(found[2]))
            assert before is None or after is not None, "renamed out of sight"
            if before is None or after is None:
                return False
            self._here[after] = self._here.pop(before)
            self._renamed += [(before, None), (after, self._here[after])]
            return True
        return False

    def _wrote(self, found: re.Match[str]) -> bool:
        written = int(found[5])
        if written <= 0:
            return False
        data = _bytes(found[3])[:written]
        if found[1] == "1":
            self._line += data
            *lines, self._line = self._line.split(b"\n")
            self.said += [line.decode() for line in lines]
            return bool(lines)
        name = self._name(_bytes(found[2]))
        if name is None:
            return False
        if found[4] is None:
            assert name in self._appends, f"{name}: written without an offset"
            return self._put(name, self._here[name].size, data)
        return self._put(name, int(found[4]), data)

    def _put(self, name: str | None, offset: int, data: bytes | None) -> bool:
        if name is None:
            return False
        self._here[name].put(offset, data)
        return True

    def _synced(self, path: bytes, unsynced: int) -> bool:
        if path.decode(errors="replace") == self._folder:
            for name, file in self._renamed:
                _rename(self._durable, name, file)
            self._renamed.clear()
            return True
        name = self._name(path)
        if name is None:
            return False
        file = self._here[name]
        file.sync(len(file.since) if unsynced < 0 else unsynced)
        return True

    def _opened(self, name: str | None, flags: str) -> bool:
        if name is None:
            return False
        if "O_APPEND" in flags:
            self._appends.add(name)
        assert "O_TRUNC" not in flags, f"{name}: cut off by open"
        if name in self._here:
            return False
        assert "O_CREAT" in flags, f"{name}: was there before the trace began"
        self._here[name] = _File()
        self._renamed.append((name, self._here[name]))
        return True

    def _unnamed(self, name: str | None) -> bool:
        if name is None:
            return False
        self._here.pop(name)
        self._renamed.append((name, None))
        return True

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Name -> content, of one disk that this moment may leave."""
        names = dict(self._durable)
        for name, file in self._renamed[: chance.randint(0, len(self._renamed))]:
            _rename(names, name, file)
        return {name: file.after_a_cut(chance) for name, file in names.items()}


def _rename(names: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file
