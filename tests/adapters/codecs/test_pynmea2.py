"""What pynmea2 does that we must not believe, pinned: an update that changes it shows here.

Source: libraries reference, 4; radio protocols, 4.3. Each test says what our parse makes of it.
"""

from __future__ import annotations

from typing import Any

import pynmea2
import pytest

from adapters import codecs
from gateway.messages import BadFrame, Decoded, LocationFix
from tests.adapters.codecs.sentences import rmc, sentence
from tests.corpus import ms

NOW_MS = ms("2026-11-22T10:15:10Z")
GGA = "GPGGA,101502,5234.3500,N,00014.5860,W,{quality},08,{hdop},54.5,M,46.9,M,,"


def ours(text: str) -> Decoded:
    (found,) = codecs.create("nmea0183").feed(text.encode() + b"\r\n", received_at_ms=NOW_MS)
    return found


def theirs(text: str) -> Any:
    return pynmea2.parse(text, check=True)


def test_a_void_position_is_null_island() -> None:
    text = "$GPRMC,,V,,,,,,,,,,N*53"
    assert (theirs(text).latitude, theirs(text).longitude) == (0.0, 0.0)
    assert ours(text) == BadFrame("void")


def test_a_missing_hemisphere_is_the_equator_and_valid() -> None:
    text = rmc(north="")
    assert theirs(text).latitude == 0.0
    assert theirs(text).is_valid
    assert ours(text) == BadFrame("void")


@pytest.mark.parametrize(("lat", "reads"), [("9999.0000", 100.65), ("5260.0000", 53.0)])
def test_impossible_degrees_and_minutes_pass(lat: str, reads: float) -> None:
    text = rmc(lat=lat)
    assert theirs(text).latitude == pytest.approx(reads)
    assert ours(text) == BadFrame("range")


def test_an_infinite_dilution_passes_as_text() -> None:
    text = sentence(GGA.format(quality=1, hdop="inf"))
    assert theirs(text).horizontal_dil == "inf"
    found = ours(text)
    assert isinstance(found, LocationFix)
    assert found.accuracy_m is None


@pytest.mark.parametrize("mode", ["S", "E", "M"])
def test_simulated_estimated_and_manual_are_valid(mode: str) -> None:
    text = rmc(tail=f",,{mode}")
    assert theirs(text).is_valid
    assert ours(text) == BadFrame("mode")


def test_navigation_status_v_makes_a_good_fix_invalid() -> None:
    text = rmc(tail=",,A,V")
    assert not theirs(text).is_valid
    assert isinstance(ours(text), LocationFix)


def test_dead_reckoning_by_gga_is_as_invalid_as_simulation() -> None:
    for quality in "68":
        text = sentence(GGA.format(quality=quality, hdop="0.9"))
        assert not theirs(text).is_valid
        assert ours(text) == BadFrame("mode")


def test_a_missing_checksum_needs_asking_for() -> None:
    bare = rmc().partition("*")[0]
    assert pynmea2.parse(bare).is_valid
    with pytest.raises(pynmea2.ChecksumError):
        pynmea2.parse(bare, check=True)
    assert ours(bare) == BadFrame("no_checksum")


@pytest.mark.parametrize(("date", "raw"), [("2208-1", "2208-1"), ("", None)])
def test_a_bad_date_is_the_raw_text_and_a_leak(date: str, raw: str | None) -> None:
    text = rmc(date=date)
    assert theirs(text).datestamp == raw
    with pytest.raises(TypeError):
        _ = theirs(text).datetime
    assert ours(text) == BadFrame("date")


def test_a_leap_second_is_the_raw_text_and_a_leak() -> None:
    text = rmc(clock="235960")
    assert theirs(text).timestamp == "235960"
    with pytest.raises(TypeError):
        _ = theirs(text).datetime
    assert isinstance(ours(text), LocationFix)


def test_a_latitude_without_fraction_is_a_leak() -> None:
    text = rmc(lat="5130")
    with pytest.raises(ValueError, match="DDDMM"):
        _ = theirs(text).latitude
    found = ours(text)
    assert isinstance(found, LocationFix)
    assert found.lat == 51.5


def test_no_roll_over_is_repaired() -> None:
    text = rmc(date="080407")
    assert theirs(text).datetime.year == 2007
    found = ours(text)
    assert isinstance(found, LocationFix)
    assert (found.fixed_at_ms, found.repaired) == (ms("2026-11-22T10:15:02Z"), True)


def test_an_old_vtg_is_misread() -> None:
    """Without unit letters the magnetic course becomes a unit: so speed comes from RMC alone."""
    assert theirs(sentence("GPVTG,054.7,034.4,005.5,010.2")).true_track_sym == "034.4"


@pytest.mark.parametrize("before", ["\x00", "660420156A0066AA", rmc(clock="101501")])
def test_anything_before_the_dollar_loses_the_sentence(before: str) -> None:
    with pytest.raises((pynmea2.ParseError, pynmea2.ChecksumError)):
        theirs(before + rmc())
    found = codecs.create("nmea0183").feed(f"{before}{rmc()}\r\n".encode(), received_at_ms=NOW_MS)
    assert isinstance(found[-1], LocationFix)


def test_what_we_stand_on() -> None:
    """The one member that we read: the fields as text, none dropped, none converted."""
    fields = ["101502", "A", "5234.3500", "N", "00014.5860", "W", "0", "", "221126", "", "", "A"]
    assert theirs(rmc()).data == fields
