"""The token by which the command line on this machine proves itself to the daemon.

`host.token` in the state folder, 0600: whoever can read it is the daemon's own user or root, who
could do anything to it anyway. New at each start and gone at the stop, so that one that was caught
is soon worth nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gateway.errors import LedgerUnavailable
from gateway.messages import Secret

NAME = "host.token"


def make(state_dir: Path) -> Secret:
    """A new one, for us alone. Blocks, shortly. Raises OSError."""
    token, path = secrets.token_urlsafe(32), state_dir / NAME
    part = path.with_name(f".{NAME}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="ascii") as file:
        file.write(token)
    part.replace(path)
    return Secret(token)


def drop(state_dir: Path) -> None:
    with contextlib.suppress(OSError):
        (state_dir / NAME).unlink()


def read(state_dir: Path) -> Secret | None:
    """None: no daemon runs here. Raises LedgerUnavailable when it is not for us to read."""
    try:
        return Secret((state_dir / NAME).read_text("ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise LedgerUnavailable(f"{NAME}: cannot be read by this user") from None
