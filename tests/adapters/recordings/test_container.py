"""The file of a recording: what it seals, what it notices, and what a cut tail costs."""

from __future__ import annotations

import base64
import contextlib
import os
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.recordings import About, End, Heard, Key, LinkAbout, Lost, RecordingUnreadable
from adapters.recordings.container import MAGIC, Writing, make_key, opened, read_key

ABOUT = About("gw1", "0", "abc", 1, (LinkAbout("line", "serial", "line_terminal", {"baud": 9600}),))
SAID = b"V TE99ABC R1\r\n"


def written(path: Path, key: Key | None, blocks: int = 3) -> bytes:
    file = Writing(path, key, begun_ms=1000)
    file.write([ABOUT])
    for n in range(blocks):
        file.write([Heard(1000 + n, n, 0, "", SAID), Heard(1000 + n, n, 0, "", b"\x80")])
    file.write([End(2000)])
    file.close()
    return path.read_bytes()


def pair(folder: Path) -> tuple[Key, Key]:
    public = make_key(folder / "a.key")
    return read_key(public), read_key(folder / "a.key")


@pytest.mark.parametrize("how", ["none", "key", "x25519"])
def test_what_is_written_is_read(tmp_path: Path, how: str) -> None:
    if how == "key":
        (tmp_path / "k").write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    key = {"none": None, "key": None if how != "key" else read_key(tmp_path / "k")}.get(how)
    reading = key
    if how == "x25519":
        key, reading = pair(tmp_path)
    data = written(tmp_path / "r", key)
    assert (SAID in data) == (how == "none")
    assert (b"line_terminal" in data) == (how == "none")
    recording = opened(data, reading)
    assert recording.about == ABOUT
    assert recording.header.sealed == how
    items = list(recording.items())
    assert [each.data for each in items if isinstance(each, Heard)] == [SAID, b"\x80"] * 3
    assert not recording.cut
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600


def test_the_host_cannot_read_what_it_sealed(tmp_path: Path) -> None:
    """Not with the key that it has; nor is anything of that key's other half in the file."""
    public, private = pair(tmp_path)
    data = written(tmp_path / "r", public)
    with pytest.raises(RecordingUnreadable, match="private half"):
        opened(data, public)
    with pytest.raises(RecordingUnreadable, match="give its key"):
        opened(data)
    other = make_key(tmp_path / "b.key")
    with pytest.raises(RecordingUnreadable, match="another key"):
        opened(data, read_key(other.with_suffix("")))
    assert private.private not in data
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_a_cut_tail_costs_what_was_cut(tmp_path: Path) -> None:
    """At every octet: no cut is an error once it says what it is of, none makes up anything."""
    public, private = pair(tmp_path)
    data = written(tmp_path / "r", public)
    whole = list(opened(data, private).items())
    counts = []
    for length in range(len(data)):
        try:
            recording = opened(data[:length], private)
        except RecordingUnreadable:
            counts.append(0)
            continue
        items = list(recording.items())
        assert items == whole[: len(items)]
        assert recording.cut
        counts.append(len(items))
    assert counts == sorted(counts)
    assert counts[-1] == len(whole) - 1


@pytest.mark.parametrize("sealed", [True, False])
def test_what_was_changed_is_noticed(tmp_path: Path, sealed: bool) -> None:
    public, private = pair(tmp_path)
    data = written(tmp_path / "r", public if sealed else None)
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            items = list(opened(bytes(changed), private if sealed else None).items())
        except RecordingUnreadable:
            continue
        whole = list(opened(data, private if sealed else None).items())
        assert items == whole[: len(items)], at


def test_blocks_cannot_be_left_out_or_exchanged(tmp_path: Path) -> None:
    public, private = pair(tmp_path)
    data = written(tmp_path / "r", public)
    frames, at = [], len(MAGIC)
    while at < len(data):
        length = 4 + int.from_bytes(data[at : at + 4], "big")
        frames.append(data[at : at + length])
        at += length
    header, about, first, second, *rest = frames
    for order in ([about, second, *rest], [about, second, first, *rest]):
        with pytest.raises(RecordingUnreadable, match="block 1: it was changed"):
            list(opened(MAGIC + header + b"".join(order), private).items())


def framed(*blocks: bytes, header: bytes = b'{"format":1,"sealed":"none","begun_ms":0}') -> bytes:
    whole = [header, *(zlib.crc32(each).to_bytes(4, "big") + each for each in blocks)]
    return MAGIC + b"".join(len(each).to_bytes(4, "big") + each for each in whole)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_whatever_bytes_come_it_is_read_or_unreadable(block: bytes, header: bytes) -> None:
    """Nobody vouches for a file that is not sealed."""
    about = msgspec.msgpack.encode([ABOUT])
    for data in (
        framed(block),
        framed(about, block),
        framed(about, header=header),
        framed(about, header=b'{"format":1,"sealed":"none","begun_ms":0,"salt":"' + header + b'"}'),
        MAGIC + block,
    ):
        with contextlib.suppress(RecordingUnreadable):
            assert all(
                isinstance(each, Heard | Lost | End | About) for each in opened(data).items()
            )


def test_a_link_that_it_does_not_have() -> None:
    blocks = (msgspec.msgpack.encode([each]) for each in (ABOUT, Heard(0, 0, 1, "", b"")))
    with pytest.raises(RecordingUnreadable, match="a link that it does not have"):
        list(opened(framed(*blocks)).items())


@pytest.mark.parametrize("text", [b"", b"abc", base64.b64encode(b"short"), b"-----PUBLIC KEY-----"])
def test_what_is_no_key_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "k").write_bytes(text)
    with pytest.raises(ValueError):
        read_key(tmp_path / "k")
