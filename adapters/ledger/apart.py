"""A receipt proved in a process of its own: the hashes of a year are read for it, and the daemon's
interpreter has one lock, for which no officer shall wait.

What is asked goes in by a pipe, and so does the proof come out: a command line is anybody's to
read, and the address of a database may hold a password.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import msgspec

from adapters.ledger import show_receipt, url_of
from gateway.errors import EXIT_CHAIN, ChainBroken, LedgerUnavailable
from gateway.settings import LedgerSection

EXIT_NONE = 4
"""No record has the receipt."""


class _Asked(msgspec.Struct):
    url: str
    state_dir: str
    receipt: str


class _Broken(msgspec.Struct):
    log: str
    seq: int
    reason: str


async def prove_apart(section: LedgerSection, state_dir: Path, receipt: str) -> bytes | None:
    """What it proves, as JSON; None when no record has it. Given up with whoever awaits it.

    Raises ChainBroken, LedgerUnavailable.
    """
    asked = _Asked(url_of(section, state_dir), str(state_dir), receipt)
    command = (sys.executable, "-m", "adapters.ledger.apart")
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
    except OSError as error:
        raise LedgerUnavailable(f"no proof can be made: {error.strerror}") from error
    try:
        said, _ = await process.communicate(msgspec.json.encode(asked))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return said
    if process.returncode == EXIT_NONE:
        return None
    if process.returncode == EXIT_CHAIN:
        broken = msgspec.json.decode(said, type=_Broken)
        raise ChainBroken(broken.log, broken.seq, broken.reason)
    raise LedgerUnavailable("no proof could be made")


def main() -> int:
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=_Asked)
    section = LedgerSection(url=asked.url)
    try:
        found = [*show_receipt(section, state_dir=Path(asked.state_dir), receipt=asked.receipt)]
    except ChainBroken as error:
        sys.stdout.buffer.write(msgspec.json.encode(_Broken(error.log, error.seq, error.reason)))
        return EXIT_CHAIN
    except LedgerUnavailable:
        return 1
    if not found:
        return EXIT_NONE
    sys.stdout.buffer.write(msgspec.json.encode(found[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
