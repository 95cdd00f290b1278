"""A process that dies says the class and our own lines, and leaves no image of its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapters import last_words
from gateway.messages import VehicleKey

ROOT = Path(__file__).parents[2]
SECRET = "TE99STV"


class Broken(Exception):
    """Its text names what was asked, as the text of many errors does."""


def traced(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it is what is looked at
        return caught


def of_product() -> BaseException:
    """A real error that our own code raises, with a value in its text."""
    from gateway.settings import is_day
    from gateway.transliteration import transliterate

    try:
        is_day(SECRET)
        transliterate(VehicleKey(vrm=SECRET))  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        error.add_note(SECRET)
        return error
    raise AssertionError("it takes anything")


def nested() -> BaseException:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise Broken(SECRET) from error
    except Broken as error:
        return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (traced(Broken(SECRET)), "Broken at "),
        (traced(KeyError(SECRET)), "KeyError at "),
        (nested(), "; after KeyError at "),
        (traced(ExceptionGroup(SECRET, [Broken(SECRET), ValueError(SECRET)])), "of [Broken"),
        (traced(SystemExit(SECRET)), "SystemExit at "),
        (of_product(), "gateway/transliteration.py:"),
    ],
)
def test_it_is_told_by_its_class_and_where(error: BaseException, says: str) -> None:
    """Never by its text: that of its causes, of its group and its notes included."""
    line = last_words.told(error, error.__traceback__)
    assert says in line
    assert SECRET not in line
    assert "\n" not in line


DYING = """
import asyncio, gc, logging, sys, threading
from adapters import last_words
last_words.speak_plainly()
last_words.leave_no_image()
SECRET = "TE" + "99STV"

class Held:
    def __del__(self):
        raise ValueError(SECRET)

def fails(*_):
    raise LookupError(SECRET)

thread = threading.Thread(target=fails, name=SECRET)
thread.start(); thread.join()
Held(); gc.collect()

async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(fails, SECRET)
    task = loop.create_task(asyncio.sleep(0), name=SECRET)
    lost = loop.create_future(); lost.set_exception(OSError(SECRET)); del lost
    gc.collect()
    await task
    logging.getLogger("some.library").error("asked for %s", SECRET)

asyncio.run(main())
import ctypes, resource
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
raise RuntimeError(SECRET)
"""


def test_whichever_way_it_dies() -> None:
    """Main, a thread, a finaliser, a callback and a future of the loop, a library's log."""
    done = subprocess.run(
        [sys.executable, "-c", DYING], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr + done.stdout
    said = done.stderr.splitlines()
    for word in ("RuntimeError", "LookupError", "ValueError", "OSError", "some.library", "thread"):
        assert any(word in line for line in said), word
    assert "Traceback" not in done.stderr
    # Not dumpable, and no core in any case.
    assert done.stdout.split("\n")[0] == "0 (0, 0)"
