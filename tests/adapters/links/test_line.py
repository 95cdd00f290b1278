"""How fast one line may be read, whatever it says, and how its end is put into words."""

from __future__ import annotations

import errno
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.links.line import BYTES_MOST, FRAMES_MOST, WINDOW_S, Pace, why

SLICE_MOST = 1024
"""The transport reads no more in one turn."""

slices = st.lists(
    st.tuples(st.integers(0, 512), st.integers(1, SLICE_MOST), st.floats(0.0, 0.2)), max_size=300
)


@given(slices)
def test_no_line_takes_more_than_its_window_and_one_slice(
    said: list[tuple[int, int, float]],
) -> None:
    """Whoever obeys the pauses: in any window that begins with a slice, at most twice what one
    window allows (its two halves may meet), and what the last slice of each went over."""
    pace, now_s = Pace(), 100.0
    taken: list[tuple[float, int, int]] = []
    for frames, size, gap_s in said:
        now_s += gap_s
        taken.append((now_s, frames, size))
        now_s += pace.spend(now_s, frames, size)
    for place, (since_s, _, _) in enumerate(taken):
        window = [each for each in taken[place:] if each[0] < since_s + WINDOW_S - 1e-6]
        assert sum(frames for _, frames, _ in window) <= 2 * (FRAMES_MOST + 512)
        assert sum(size for _, _, size in window) <= 2 * (BYTES_MOST + SLICE_MOST)


@given(st.lists(st.integers(0, FRAMES_MOST // 10 - 1), max_size=100))
def test_a_line_within_its_allowance_never_pauses(said: list[int]) -> None:
    """Ten slices a window, each a little less than a tenth of what is allowed."""
    pace, now_s = Pace(), 0.0
    for frames in said:
        now_s += WINDOW_S / 9
        assert pace.spend(now_s, frames, SLICE_MOST) == 0.0


def test_a_pause_ends_with_the_window() -> None:
    pace = Pace()
    assert pace.spend(5.0, FRAMES_MOST - 1, 10) == 0.0
    assert pace.spend(5.02, 1, 10) == pytest.approx(WINDOW_S - 0.02)
    assert pace.spend(5.0 + WINDOW_S, FRAMES_MOST - 1, 10) == 0.0


def hidden(inner: BaseException) -> Exception:
    """As pyserial raises it: a new error without the number of the one behind."""
    try:
        try:
            raise inner
        except BaseException:  # noqa: BLE001 - the error is ours, to be put behind another
            raise OSError("could not configure port /dev/serial/by-id/x")  # noqa: B904
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOENT, "x"), "no such port"),
        (hidden(termios.error(errno.ENOTTY, "x")), "not a serial port"),
        (hidden(OSError(errno.EACCES, "x")), "no permission: put the user into group dialout"),
        (termios.error(errno.EIO, "x"), "hung up"),
        (TimeoutError("timed out"), "does not answer"),
        (OSError("/dev/serial/by-id/x"), "otherwise"),
        (termios.error(), "otherwise"),
    ],
)
def test_an_error_in_a_few_words_without_the_path(error: BaseException, reason: str) -> None:
    assert why(error, "otherwise") == reason
    assert len(reason) <= 60
