"""SIGKILL at one exact system call of a process that runs: strace is attached, counts and kills.

The call is killed on entry: it is not made any more. What is counted is narrowed to one file,
terminal line or socket, so that heartbeats and ticks elsewhere do not shift the count; each thread
counts for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.services import require

ATTACHED_WITHIN_S = 10.0


class Strace:
    """On these files, the `when`-th call of this name ends the process; 0: it is only written down.

    paths: files, devices, or `socket:[inode]` (see `sockets`), as /proc/PID/fd has them; none: any.
    calls: names, with commas. log: where what was called is written down.
    """

    def __init__(
        self, pid: int, calls: str, paths: Sequence[str], when: int = 0, log: Path | None = None
    ) -> None:
        self._program = require("strace")
        self._pid = pid
        self._calls, self._paths, self._when = calls, paths, when
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def attach(self) -> None:
        """Return once every thread is traced: from here on it counts."""
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            *("-f", "-qq", "-o", str(self._log or "/dev/null"), "-p", str(self._pid)),
            *(word for path in self._paths for word in ("-P", path)),
            *("-e", f"trace={self._calls}"),
            *(("-e", f"inject={self._calls}:signal=SIGKILL:when={self._when}") * bool(self._when)),
            stderr=asyncio.subprocess.PIPE,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTACHED_WITHIN_S):
                while not self._all_traced():
                    if self._process.returncode is not None:
                        break
                    await asyncio.sleep(0.01)
                else:
                    return
        await self.let_go()
        assert self._process.stderr is not None
        said = (await self._process.stderr.read()).decode()
        raise AssertionError(f"strace does not attach (kernel.yama.ptrace_scope?): {said}")

    def _all_traced(self) -> bool:
        tasks = list(Path(f"/proc/{self._pid}/task").iterdir())
        return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)

    async def let_go(self) -> None:
        """End strace; a process that it did not kill runs on."""
        if self._process is not None:
            # Not `terminate`, which reaps one that ended by itself before its watcher can.
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGTERM)
            await self._process.wait()


def sockets(pid: int, *, port: int, local: bool = False) -> list[str]:
    """A process's open TCP sockets to this port, or from it (`local`), oldest first."""
    inodes = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        ends = [int(words[at].rpartition(":")[2], 16) for at in (1, 2)]
        if words[3] == "01" and ends[0 if local else 1] == port:
            inodes[f"socket:[{words[9]}]"] = ends
    return [link for link in _links(pid) if link in inodes]


def _links(pid: int) -> Iterator[str]:
    for number in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")
