"""The vocabulary itself: what no value may give away, and what old rows must still say."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest

from gateway.messages import Asker, BookOn, Secret

FACTOR = "4711-canary"


def test_a_secret_shows_in_no_text_of_it() -> None:
    """Its own, and that of whatever holds it: what a traceback or a log would print."""
    secret = Secret(FACTOR)
    message = BookOn(officer="1001", factor=secret)
    for text in (repr(secret), str(secret), f"{secret}", repr(message), repr([message])):
        assert FACTOR not in text
        assert "***" in text
    assert secret.reveal() == FACTOR


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps])
def test_a_secret_is_not_encoded(encode: object) -> None:
    """Alone or in a message: no row, record, event or copy can hold it."""
    assert callable(encode)
    for value in (Secret(FACTOR), BookOn(officer="1001", factor=Secret(FACTOR))):
        with pytest.raises(TypeError) as refused:
            encode(value)
        assert FACTOR not in str(refused.value)


def test_a_secret_is_compared_and_never_hashed() -> None:
    """As a key of a dict it would lie about in memory."""
    assert Secret(FACTOR) == Secret(FACTOR)
    assert Secret(FACTOR) != Secret("4712")
    assert Secret("é") != Secret("e")
    assert Secret(FACTOR) != FACTOR
    with pytest.raises(TypeError):
        hash(Secret(FACTOR))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(FACTOR))


def test_an_asker_is_read_from_a_row_that_was_stored_as_a_terminal() -> None:
    """The bytes are those of a store made before radio and person were parted."""
    stored = (
        b'{"issi":"1000001","callsign":"E-101","officer":"1001","surname":"NOVAK","rank":"PC",'
        b'"agency":"police","role":"constable","area":"east","device_class":"handheld"}'
    )
    asker = msgspec.json.decode(stored, type=Asker)
    assert asker == Asker(
        issi="1000001",
        callsign="E-101",
        officer="1001",
        surname="NOVAK",
        rank="PC",
        agency="police",
        role="constable",
        area="east",
    )
    assert (asker.booking, asker.crew, asker.operator) == ("", (), "")
