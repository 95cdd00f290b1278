"""What a process of ours leaves behind when it dies: the class of the error and our own lines.

Python's own traceback ends with the error's text, and that may hold what an officer asked; an image
of the memory holds all of it. So a defect that nobody caught is one line of class, file, line and
function, and no image is written.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import resource
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType

OURS = Path(__file__).resolve().parents[1]
FOLDERS = ("gateway", "adapters", "simulators")
FRAMES_MOST = 12
"""The innermost; a recursion has a thousand."""
PR_SET_DUMPABLE = 4


def told(error: BaseException | type[BaseException], trace: TracebackType | None) -> str:
    """One line: what it was, what caused it, and where in our own code."""
    kind = error if isinstance(error, type) else type(error)
    line = f"{kind.__name__} at {_places(trace)}"
    cause = error.__cause__ or error.__context__ if isinstance(error, BaseException) else None
    seen = {id(error)}
    while cause is not None and id(cause) not in seen and len(seen) <= FRAMES_MOST:
        seen.add(id(cause))
        line += f"; after {type(cause).__name__} at {_places(cause.__traceback__)}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, BaseExceptionGroup):
        inner = [told(each, each.__traceback__) for each in error.exceptions[:FRAMES_MOST]]
        line += f"; of [{' | '.join(inner)}]"
    return line


def _places(trace: TracebackType | None) -> str:
    places: list[str] = []
    while trace is not None:
        place = _place(trace.tb_frame, trace.tb_lineno)
        if place:
            places.append(place)
        trace = trace.tb_next
    return " > ".join(places[-FRAMES_MOST:]) or "elsewhere"


def _place(frame: FrameType, number: int) -> str:
    """Empty for code that is not ours: names of others' files may hold anything."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(OURS):
        return ""
    name = path.relative_to(OURS)
    return f"{name}:{number} {frame.f_code.co_name}" if name.parts[0] in FOLDERS else ""


def _say(text: str) -> None:
    stream = sys.__stderr__
    if stream is None:
        return
    try:
        stream.write(f"radio-gateway: {text}\n")
        stream.flush()
    except (OSError, ValueError):  # closed, or a pipe that nobody reads: nothing is left to do
        return


class _LastResort(logging.Handler):
    """For what a library logs before the journal has it, or without one."""

    def emit(self, record: logging.LogRecord) -> None:
        said = f"{record.levelname.lower()} of {record.name}"
        error = record.exc_info[1] if record.exc_info else None
        _say(f"{said}: {told(error, error.__traceback__)}" if error is not None else said)


def speak_plainly() -> None:
    """From now on nothing that ends this process, or a thread or a task of it, says more."""

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        _say(told(error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        _say(f"in a thread: {told(args.exc_value or args.exc_type, args.exc_traceback)}")

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        _say(f"ignored: {told(args.exc_value or args.exc_type, args.exc_traceback)}")

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    logging.lastResort = _LastResort(logging.WARNING)


def leave_no_image() -> None:
    """No core file, and none through a pipe either, whatever the host's core_pattern says; nobody
    of the same user reads this process's memory or environment. Children that are forked have it
    from us."""
    with contextlib.suppress(OSError, ValueError):  # a filter of calls: the unit has the limit then
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
