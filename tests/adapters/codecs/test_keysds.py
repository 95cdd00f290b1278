"""KeySDS by a grammar of its own: what the reference's rules write reads back the same."""

from __future__ import annotations

import re
import string
import unicodedata
from datetime import date
from typing import get_args

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from adapters.codecs import keysds
from gateway.messages import (
    CheckRequest,
    MalformedCheck,
    PersonKey,
    PropertyKey,
    StatusReport,
    VehicleKey,
)
from tests.corpus import cases

ALNUM = string.ascii_uppercase + string.digits
VIN_LETTERS = "".join(sorted(set(ALNUM) - set("IOQ")))


@st.composite
def usual_marks(draw: st.DrawFn) -> tuple[str, str]:
    """A mark of the current format or the one before, as it is painted: two groups."""
    letters = st.text(string.ascii_uppercase, min_size=3, max_size=3)
    if draw(st.booleans()):
        area = draw(st.text(string.ascii_uppercase, min_size=2, max_size=2))
        return f"{area}{draw(st.integers(0, 99)):02}", draw(letters)
    return f"{draw(st.sampled_from(string.ascii_uppercase))}{draw(st.integers(1, 999))}", draw(
        letters
    )


@st.composite
def options(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """Options as the reference writes them, the reason first; and what they mean."""
    reason = draw(st.integers(0, 99))
    words, means = [], {"reason": str(reason), "location": "", "collar": "", "client_ref": ""}
    full = draw(st.booleans())
    if draw(st.booleans()):
        place = draw(st.lists(st.text(ALNUM, min_size=1, max_size=4), min_size=1, max_size=3))
        words.append("L" + ".".join(place))
        means["location"] = " ".join(place)
    if draw(st.booleans()):
        means["collar"] = draw(st.text(ALNUM, min_size=1, max_size=10))
        words.append(f"O{means['collar']}")
    if draw(st.booleans()):
        means["client_ref"] = str(draw(st.integers(0, 999)))
        words.append(f"Q{means['client_ref']}")
    if full:
        words.append("F")
    words = [f"R{reason}", *draw(st.permutations(words))]
    why = draw(st.just([]) | st.lists(st.text(ALNUM, min_size=1, max_size=6), max_size=3))
    # Text that ends like a reason makes a serial of it readable: that is told, below.
    if why and not any(re.fullmatch(r"R\d{1,2}", word) for word in why):
        words += ["J", *why]
        means["justification"] = " ".join(why)
    return " ".join(words), {"justification": "", **means, "full": full}


def asked(text: str, means: dict[str, object]) -> CheckRequest:
    """The check that the text is, with its options as they should be."""
    assume(len(text) <= keysds.TEXT_MAX)
    found = keysds.parse(text)
    assert isinstance(found, CheckRequest), found
    assert {name: getattr(found, name) for name in means} == means
    assert (found.ref, found.sent_at_ms, found.fix) == ("", None, None)
    assert found.typed == text
    return found


@settings(max_examples=500)
@given(mark=st.text(ALNUM, min_size=2, max_size=8), opts=options())
def test_every_mark_without_blanks(mark: str, opts: tuple[str, dict[str, object]]) -> None:
    assert asked(f"V {mark} {opts[0]}", opts[1]).key == VehicleKey(vrm=mark)


@settings(max_examples=500)
@given(mark=usual_marks(), opts=options())
def test_every_usual_mark_as_it_is_painted(
    mark: tuple[str, str], opts: tuple[str, dict[str, object]]
) -> None:
    """Also where its last group could be a place (`LXX`) or a collar number (`OXO`)."""
    front, back = mark
    key = asked(f"V {front} {back} {opts[0]}", opts[1]).key
    assert key == VehicleKey(vrm=front + back)


@settings(max_examples=500)
@given(
    groups=st.lists(st.text(ALNUM, min_size=1, max_size=4), min_size=2, max_size=3),
    opts=options(),
)
def test_a_mark_in_groups_is_never_read_as_half_of_it(
    groups: list[str], opts: tuple[str, dict[str, object]]
) -> None:
    """Whatever the groups: all of them, or told; never only the first. But what holds digits and
    looks like an option is one, by the grammar, and shows as one."""
    assume(not any(re.fullmatch(r"R\d{1,2}|Q\d{1,3}|[OL].*\d.*", group) for group in groups[1:]))
    text = f"V {' '.join(groups)} {opts[0]}"
    found = keysds.parse(text)
    if isinstance(found, MalformedCheck):
        return
    assert isinstance(found, CheckRequest)
    assert isinstance(found.key, VehicleKey)
    mark = "".join(groups)
    if len(mark) > 8 or keysds._USUAL_MARK.fullmatch(found.key.vrm):
        # Too long for a mark: then the last groups are options after all. Or a whole mark before.
        assert mark.startswith(found.key.vrm)
    else:
        assert found.key.vrm == mark


@settings(max_examples=300)
@given(
    vin=st.one_of(
        st.text(VIN_LETTERS, min_size=17, max_size=17),
        st.text(VIN_LETTERS, min_size=5, max_size=8),
    ),
    opts=options(),
)
def test_every_chassis_number(vin: str, opts: tuple[str, dict[str, object]]) -> None:
    assert asked(f"VIN {vin} {opts[0]}", opts[1]).key == VehicleKey(vin=vin)


NAMES = st.lists(
    st.text(string.ascii_uppercase, min_size=1, max_size=8), min_size=1, max_size=3
).map(" ".join)


@settings(max_examples=500)
@given(
    surname=NAMES,
    forenames=NAMES,
    born=st.dates(date(1890, 1, 1), date(2026, 1, 1)),
    form=st.sampled_from(["%d%m%Y", "%Y%m%d", "%d.%m.%Y", "%Y-%m-%d"]),
    sex=st.sampled_from(["", "M", "F", "U"]),
    opts=options(),
)
def test_every_person(
    surname: str,
    forenames: str,
    born: date,
    form: str,
    sex: str,
    opts: tuple[str, dict[str, object]],
) -> None:
    """Both forms of a date of birth, and names whose second word begins with L, O or F."""
    tail = f"/{sex}" if sex else ""
    text = f"N {surname}/{forenames}/{born.strftime(form)}{tail} {opts[0]}"
    assert asked(text, opts[1]).key == PersonKey(
        surname=surname, forenames=forenames, dob=born.isoformat(), sex=sex
    )


@settings(max_examples=500)
@given(surname=NAMES, forenames=NAMES, opts=options())
def test_a_forename_is_never_lost_to_a_place(
    surname: str, forenames: str, opts: tuple[str, dict[str, object]]
) -> None:
    """Without a date of birth: all forenames, or told how to write it; with a slash: all."""
    found = keysds.parse(f"N {surname}/{forenames} {opts[0]}")
    if isinstance(found, CheckRequest):
        assert isinstance(found.key, PersonKey)
        assert (found.key.surname, found.key.forenames) == (surname, forenames)
    ended = asked(f"N {surname}/{forenames}/ {opts[0]}", opts[1])
    assert ended.key == PersonKey(surname=surname, forenames=forenames)


@settings(max_examples=300)
@given(
    kind=st.lists(st.text(ALNUM, min_size=2, max_size=6), min_size=1, max_size=2).map(" ".join),
    serial=st.text(ALNUM, min_size=3, max_size=20),
    opts=options(),
)
def test_every_piece_of_property(
    kind: str, serial: str, opts: tuple[str, dict[str, object]]
) -> None:
    assert asked(f"P {kind}/{serial} {opts[0]}", opts[1]).key == PropertyKey(
        type=kind, serial=serial
    )


@settings(max_examples=500)
@given(text=st.text(max_size=400))
@example(text="J 0000 0")
@example(text="B 1001 4711")
@example(text="B OFF")
def test_no_text_makes_it_raise(text: str) -> None:
    found = keysds.parse(text)
    assert isinstance(found, get_args(keysds.Parsed))


@settings(max_examples=500)
@given(
    verb=st.sampled_from(["V", "VIN", "N", "P"]),
    text=st.text(alphabet="TESTER/NORA0123456789 .-LOQRF'#ÄСſK", max_size=60),
)
def test_nothing_that_was_typed_comes_back_in_a_reason(verb: str, text: str) -> None:
    """Why it cannot be asked is one of a closed list of sentences, in screen letters."""
    found = keysds.parse(f"{verb} {text}")
    if isinstance(found, MalformedCheck):
        assert found.why in {
            "TOO LONG. MAX 79",
            "L TOO LONG. MAX 20",
            "OPTION GIVEN TWICE",
            "R? GIVE REASON",
            "UNCLEAR. NO BLANKS, R FIRST",
            "UNCLEAR. END NAME WITH /",
            "BAD VRM. 2-8 OF A-Z 0-9",
            "BAD VIN. 17 OR LAST 5-8",
            "N SURNAME/FORENAME/DOB/SEX",
            "BAD SERIAL. 3-30 OF A-Z 0-9",
            "P TYPE/SERIAL",
            "BAD NAME. SURNAME/FORENAME",
            "BAD SEX. M F OR U",
            "BAD AGE. A0-A120",
            "BAD DOB. DDMMYYYY",
            "NAME ALONE: ADD FORENAME, DOB OR SEX",
            "BAD CHARACTER. USE A-Z 0-9",
        }


@settings(max_examples=300)
@given(text=st.text(max_size=100))
def test_the_same_typed_twice_is_the_same(text: str) -> None:
    """`typed` is what repeats are known by: case and blanks make no difference."""
    found = keysds.parse(text)
    if isinstance(found, CheckRequest):
        again = keysds.parse(f"  {found.typed.lower()}  ".replace(" ", "  "))
        assert again == found


@pytest.mark.parametrize("case", cases("keysds"))
def test_what_is_understood_is_written_as_it_was_typed(case: dict[str, object]) -> None:
    """`written` is the other way of `parse`, for every case that has one."""
    found = keysds.parse(str(case["text"]))
    text = keysds.written(found)
    if isinstance(found, MalformedCheck):
        assert text is None
    else:
        assert text is not None
        assert keysds.parse(text) == found


def test_there_is_no_word_for_the_rest() -> None:
    assert keysds.written(StatusReport(code=0)) is None
    assert keysds.written(CheckRequest(key=VehicleKey(vrm="TE99ABC"), reason="1", ref="a1")) is None


@settings(max_examples=300)
@given(text=st.text(max_size=60))
def test_a_name_has_only_letters_and_what_joins_them(text: str) -> None:
    """B16: no control, no direction mark, no digit, no markup, whatever the script."""
    if keysds.is_name(text):
        assert 1 <= len(text) <= 54
        assert not {unicodedata.category(each)[0] for each in text} - {"L", "M", "Z", "P"}
        assert not set(text) & set(string.digits + '<>&"/\\\n\r\t\x1b')
