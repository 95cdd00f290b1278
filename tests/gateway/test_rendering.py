"""Small screens and short messages: what the officer reads."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import policy, rendering, results
from gateway.messages import (
    Block,
    Circulation,
    DriverKey,
    Key,
    Kind,
    Level,
    Outcome,
    PersonKey,
    PncAnswer,
    Receipt,
    ResultClass,
    VehicleKey,
    VehicleRecord,
    VehicleReport,
)
from gateway.policy import Decision, View
from gateway.results import Shown
from gateway.transliteration import transliterate
from tests.gateway.strategies import (
    AS_OF_MS,
    POLICY,
    QUESTIONS,
    WARNINGS,
    answer,
    ask,
    person,
    signals,
)

TED = PersonKey("TESTER", "TED", "1986-04-12", sex="M")
NORA = PersonKey("TESTER", "NORA", "1970-01-01", sex="F")
BUDGETS = (140, 79, 73)
SHOWN_TABLE = tuple(
    Shown(word.word, word.base, word.short)
    for table in (WARNINGS.codes, WARNINGS.circulations, WARNINGS.reports)
    for word in table.values()
    if word.severity in {"critical", "high"}
)


def view(said: PncAnswer, key: Key, level: Level = Level.L3) -> View:
    decided = Decision(True, level, frozenset(POLICY.levels[level.value]))
    return policy.project(POLICY, decided, ask(key), said, WARNINGS)


def pages(shown: View, short: str = "C8A1", **more: object) -> tuple[str, ...]:
    return rendering.screens(shown, short=short, clock_text="05:24", **more)  # type: ignore[arg-type]


def screen(*lines: str) -> str:
    return "\n".join(lines)


# --------------------------------------------------------------------------- worked screens


def test_worst_case_first_page() -> None:
    """TP31: weapons, violent and wanted all stand on page 1 with who it is and how sure."""
    ted = person(
        "TED",
        dob="1986-04-12",
        sex="M",
        warnings=signals("VI", "WE"),
        circulations=(Circulation(kind="WANTED_ARREST"),),
        hair="BROWN",
        marks=("SCAR L CHEEK",),
    )
    shown = view(answer(ted), TED)
    assert pages(shown)[0].startswith(
        screen("!!WEAPONS !!VIOLENT", "!!WANTED - ARREST", "TESTER TED 12/04/86", "C8A1 1/")
    )
    assert pages(shown)[0].endswith(" MATCH:FULL")
    assert rendering.texts(shown, short="C8A1", budget=140)[0].startswith(
        "C8A1 1/2 !!WEAPONS !!VIOLENT !!WANTED-ARREST TESTER TED 12/04/86 MATCH:FULL. "
        "TREAT WITH CAUTION. "
    )
    part = rendering.texts(shown, short="C8A1", budget=73)[0]
    assert part.startswith("C8A1 1/3 !!WEAPONS !!VIOLENT !!WANTED-ARREST TESTER TED 12/04/86")


def test_stolen_with_a_violent_occupant() -> None:
    """TE99STV: the mark stands beside STOLEN, what to do on the third line."""
    report = VehicleReport(kind="LOS", owner="35NB", occupant_warnings=("VI",))
    shown = view(answer(VehicleRecord(vrm="TE99STV", reports=(report,))), VehicleKey("TE99STV"))
    assert pages(shown, "C7F3")[0] == screen(
        "!!STOLEN  TE99STV", "!!VIOLENT OCCUPANT", "WAIT FOR BACKUP", "C7F3 1/3    OK=MORE"
    )


def test_a_clear_vehicle() -> None:
    """TE99AAB: plain words first; nothing more than was released."""
    car = VehicleRecord(vrm="TE99AAB", make="FORD", model="FIESTA", colour="BLUE")
    decided = Decision(True, Level.L3, frozenset({"trace", "vehicle"}))
    shown = policy.project(POLICY, decided, ask(VehicleKey("TE99AAB")), answer(car), WARNINGS)
    assert pages(shown, "C7F4") == (
        screen("NO REPORTS", "TE99AAB CHECKED", "FORD FIESTA  BLUE", "C7F4 1/1 05:24 PNC"),
    )


def test_a_clear_vehicle_as_a_message() -> None:
    """In the spirit of pnc-domain 13: NO REPORTS, mark, looks, status, as-of time."""
    car = VehicleRecord(
        vrm="TE99AAB", make="FORD", model="FIESTA", colour="BLUE", tax="Y", mot="Y", insured="Y"
    )
    shown = view(answer(car), VehicleKey("TE99AAB"))
    assert rendering.texts(shown, short="7C11", budget=140, clock_text="04:12") == (
        "7C11 1/1 NO REPORTS TE99AAB CHECKED. FORD FIESTA BLUE. TAX Y MOT Y INS Y. AS AT 04:12",
    )


@pytest.mark.parametrize(
    ("outcome", "cls", "cause", "expected"),
    [
        (
            Outcome.FAILED,
            ResultClass.UNAVAILABLE,
            "PNC LINK DOWN",
            screen("??NO ANSWER", "PNC LINK DOWN", "TREAT AS UNKNOWN", "C8A2 CONTROL TOLD"),
        ),
        (
            Outcome.EXPIRED,
            ResultClass.TIMEOUT,
            "PNC NO REPLY",
            screen("??NO ANSWER", "PNC NO REPLY", "TREAT AS UNKNOWN", "C8A2 CONTROL TOLD"),
        ),
        (
            Outcome.FAILED,
            ResultClass.HOST_ERROR,
            "",
            screen("??NO ANSWER", "PNC NO REPLY", "TREAT AS UNKNOWN", "C8A2 CONTROL TOLD"),
        ),
        (
            Outcome.REFUSED,
            ResultClass.DENIED,
            "NOT YOUR ROLE",
            screen("XXREFUSED", "NOT YOUR ROLE", "ASK CONTROL", "C8A2 REF 8812"),
        ),
    ],
)
def test_no_answer_and_refused(
    outcome: Outcome, cls: ResultClass, cause: str, expected: str
) -> None:
    """The officer reads NO ANSWER for expired and failed, with the cause; never NO TRACE."""
    shown = policy.without_answer(outcome, cls, cause, ask(NORA))
    assert pages(shown, "C8A2", reference="8812") == (expected,)
    for budget in BUDGETS:
        said = " ".join(rendering.texts(shown, short="C8A2", budget=budget))
        assert ("??NO ANSWER" in said) is (outcome is not Outcome.REFUSED)
        assert "NO TRACE" not in said
        assert cause in said
    assert rendering.texts(shown, short="C8A2", budget=79)[0] == (
        "C8A2 1/1 XXREFUSED NOT YOUR ROLE. ASK CONTROL"
        if outcome is Outcome.REFUSED
        else f"C8A2 1/1 ??NO ANSWER - {cause or 'PNC NO REPLY'}. TREAT AS UNKNOWN. CONTROL TOLD"
    )


def test_no_trace() -> None:
    """NO TRACE echoes what was searched and says that it proves nothing."""
    assert pages(view(answer(), NORA), "C8A3") == (
        screen("NO TRACE", "TESTER NORA 01/01/70", "NOT PROOF OF ID", "C8A3 1/1 05:24 PNC"),
    )
    car = pages(view(answer(), VehicleKey("TE99AAA")), "C8A3")
    assert car == (screen("NO TRACE", "TE99AAA", "NOT PROOF OF OWNER", "C8A3 1/1 05:24 PNC"),)


def test_several_candidates() -> None:
    """Doubt first, how to tell them apart, and that one of them is dangerous."""
    shown = View(
        outcome=Outcome.ANSWERED,
        kind=Kind.PERSON,
        level="L3",
        result_class="MULTIPLE",
        candidates=3,
        ask="ASK MIDDLE NAME",
        dangers=(Shown("VIOLENT", "VIOLENT", "VIO"),),
    )
    assert pages(shown, "C8A4") == (
        screen("??3 POSSIBLE MATCHES", "ASK MIDDLE NAME", "!!ONE IS VIOLENT", "C8A4 1/1 OK=SEND"),
    )
    assert rendering.texts(shown, short="C8A4", budget=73)[0].startswith(
        "C8A4 1/1 ??3 POSSIBLE MATCHES !!ONE IS VIOLENT. ASK MIDDLE NAME"
    )


def test_too_many() -> None:
    """TP28: doubt, and what to do about it; not a no trace."""
    shown = view(answer(too_many=True), PersonKey("TESTER", sex="M"))
    assert pages(shown, "C8A4") == (
        screen("??TOO MANY MATCHES", "TESTER M", "GIVE MORE DETAIL", "C8A4 1/1 05:24 PNC"),
    )


def test_restricted() -> None:
    """TP23: refer to bureau, and a name that fits by its initial."""
    key = PersonKey("TESTER", "RESTRICT", "1975-08-20", sex="F")
    shown = view(answer(person("RESTRICT", dob="1975-08-20", restricted=True)), key)
    plain = msgspec.structs.replace(shown, match="")
    assert pages(plain, "C7F5") == (
        screen("REFER TO BUREAU", "CALL CONTROL", "TESTER R 20/08/75", "C7F5 1/1 05:24 PNC"),
    )


def test_a_missing_source_is_named() -> None:
    """TE99MNS: part not checked, by name, and only what can be said of the rest."""
    said = answer(VehicleRecord(vrm="TE99MNS"), not_checked=("INSURANCE",))
    decided = Decision(True, Level.L3, frozenset({"trace"}))
    shown = policy.project(POLICY, decided, ask(VehicleKey("TE99MNS")), said, WARNINGS)
    assert pages(shown, "C7F6") == (
        screen(
            "??PART NOT CHECKED", "INSURANCE: NO REPLY", "TE99MNS NO REPORTS", "C7F6 1/1 05:24 PNC"
        ),
    )
    blind = pages(view(answer(not_checked=("NAMES",)), NORA))
    assert "NO REPORTS" not in "".join(blind)
    assert "NO TRACE" not in "".join(blind)
    assert blind[0].startswith("??PART NOT CHECKED\nNAMES: NO REPLY\nTREAT AS UNKNOWN\n")


def test_a_hit_with_a_missing_source_says_both() -> None:
    """The hit stays first; the source that did not reply follows."""
    said = answer(
        VehicleRecord(vrm="TE99ABC", reports=(VehicleReport(kind="LOS"),)),
        not_checked=("INSURANCE",),
    )
    shown = pages(view(said, VehicleKey("TE99ABC")))
    assert shown[0].startswith("!!STOLEN  TE99ABC\nINSURANCE: NO REPLY")


def test_the_tier_screen() -> None:
    """L1: tier, advice, time; the four lines have one length whatever they say."""
    said = answer(person(circulations=(Circulation(kind="WANTED_ARREST"),)))
    (page,) = pages(view(said, NORA, Level.L1), "C8B2")
    assert [line.rstrip() for line in page.splitlines()] == [
        "SAFETY: CAUTION+",
        "TWO OFFICERS",
        "CALL CONTROL",
        "C8B2 1/1 05:24",
    ]
    assert {len(line) for line in page.split("\n")} == {20}


def test_flags_screen() -> None:
    """L2: danger flags first, then y/n, in pairs that no line break parts."""
    car = VehicleRecord(vrm="TE99AAB", tax="Y", mot="N", insured="Y")
    (page,) = pages(view(answer(car), VehicleKey("TE99AAB"), Level.L2))[:1]
    assert page.splitlines()[:2] == ["SAFETY: CLEAR", "TE99AAB"]
    said = " ".join(
        rendering.texts(
            view(answer(car), VehicleKey("TE99AAB"), Level.L2), short="C8A1", budget=140
        )
    )
    assert "STOLEN N INTEREST N TAX Y MOT N INS Y" in said


def test_weaker_candidates_are_not_silent() -> None:
    """A strong match is shown, and that a weaker one is violent."""
    said = answer(person(), person("NORMA", score=50, warnings=signals("VI")))
    shown = view(said, NORA)
    assert shown.danger == ()
    assert "OTHER MATCH: VIOLENT" in " ".join(rendering.texts(shown, short="C8A1", budget=140))


# --------------------------------------------------------------------------- age


def test_a_repeated_answer_shows_its_as_of_time() -> None:
    """Page 1 of stored pages says AS AT; how sure the match is moves to page 2."""
    ted = person("TED", dob="1986-04-12", warnings=signals("VI"), marks=("SCAR", "TATTOO"))
    stored = pages(view(answer(ted), TED))
    again = rendering.repeated_pages(stored, clock_text="05:24")
    assert again[0].splitlines()[-1] == f"C8A1 1/{len(stored)} AS AT 05:24"
    assert again[0].splitlines()[:-1] == stored[0].splitlines()[:-1]
    assert again[1].splitlines()[-1].endswith("MATCH:FULL")
    assert again[2:] == stored[2:]
    assert pages(view(answer(ted), TED), repeated=True)[0] == again[0]
    (tier,) = rendering.repeated_pages(pages(view(answer(), NORA, Level.L1)), clock_text="05:24")
    assert tier.splitlines()[-1] == "C8A1 1/1 AS AT 05:24"


def test_times_are_local() -> None:
    """05:24 in London in winter, an hour later by summer time; an old answer shows its day."""
    assert rendering.clock_text(AS_OF_MS, "Europe/London") == "05:24"
    july_ms = 1_785_000_000_000
    assert rendering.clock_text(july_ms, "UTC") == "17:20"
    assert rendering.clock_text(july_ms, "Europe/London") == "18:20"
    assert rendering.as_of_text(AS_OF_MS, AS_OF_MS + 60_000, "Europe/London") == "05:24"
    assert rendering.as_of_text(AS_OF_MS, AS_OF_MS + 86_400_000, "Europe/London") == "22/11"


def test_a_stale_source_shows_its_date() -> None:
    """A block that is older than it should be is named with its day."""
    said = answer(VehicleRecord(vrm="TE99AAB"), blocks=(Block("DVLA", 1_785_000_000_000, "STALE"),))
    shown = view(said, VehicleKey("TE99AAB"))
    assert "DVLA AS AT 25/07/26" in " ".join(pages(shown)).replace("\n", " ")


def test_single_lines() -> None:
    """Receipts, refusals and notices hold nothing of the subject."""
    yes = Receipt(ref="a", check="X", short="C7F3", accepted=True, client_ref="12")
    no = Receipt(ref="a", check="X", short="C7F3", accepted=False, why="BUSY RETRY")
    assert rendering.receipt_text(yes) == "Q12 C7F3 SENT"
    assert rendering.receipt_text(no) == "XX BUSY RETRY"
    assert rendering.late_text("C7F3") == "C7F3 LATE REPLY. REPEAT CHECK"
    assert "??NO ANSWER" in rendering.unrecorded_text("C7F3")
    assert len(rendering.waiting_text("C7F3")) <= 73


# --------------------------------------------------------------------------- properties


def stands(word: Shown, page: str) -> bool:
    """Whether a danger word is on this page, in one of the forms of the shortening rule."""
    flat = " ".join(page.replace("!!", " ").split())
    full = [word.text, word.text.replace(" - ", "-"), word.base]
    return any(f" {form} " in f" {flat} ".replace(".", " ") for form in (*full, word.short))


def check_pages(shown: View, made: tuple[str, ...]) -> None:
    assert 1 <= len(made) <= 4
    for place, page in enumerate(made, 1):
        lines = page.split("\n")
        assert len(lines) <= 4
        assert all(len(line) <= 20 for line in lines)
        assert page.isascii()
        assert page == page.upper()
        assert lines[-1].startswith(f"C8A1 {place}/{len(made)}") or len(made) == 1
    for word in shown.dangers:
        assert stands(word, made[0]), word
    if shown.dangers and shown.level in {"L3", "L4"}:
        assert "!!" in made[0]


def check_texts(shown: View, made: tuple[str, ...], budget: int) -> None:
    assert 1 <= len(made) <= 4
    for place, part in enumerate(made, 1):
        assert len(part.encode()) <= budget
        assert part.isascii()
        assert "\n" not in part
        assert part.startswith(f"Q12 C8A1 {place}/{len(made)} ")
    for word in shown.dangers:
        assert stands(word, made[0]), word
    assert made[-1].rstrip().endswith("AS AT 05:24")


LEVELS = st.sampled_from([Level.L1, Level.L2, Level.L3, Level.L4])


@settings(max_examples=80)
@given(QUESTIONS, LEVELS, st.sampled_from(BUDGETS))
def test_any_answer_fits_and_page_1_is_safe_alone(
    question: tuple[Key, PncAnswer], level: Level, budget: int
) -> None:
    """No line over 20, no part over its budget, all danger words on the first of each."""
    key, said = question
    shown = view(said, key, level)
    check_pages(shown, pages(shown))
    check_texts(
        shown,
        rendering.texts(shown, short="C8A1", budget=budget, client_ref="12", clock_text="05:24"),
        budget,
    )


@settings(max_examples=80)
@given(
    st.lists(st.sampled_from(SHOWN_TABLE), max_size=30),
    st.sampled_from(["HIT_CRITICAL", "MULTIPLE", "RESTRICTED", "TOO_MANY"]),
    st.sampled_from(BUDGETS),
    st.integers(2, 12),
)
def test_any_set_of_danger_words_stands_on_page_1(
    words: list[Shown], cls: str, budget: int, several: int
) -> None:
    """Every combination of the table's danger words, up to all of them, fits the first page."""
    shown = View(
        outcome=Outcome.ANSWERED,
        kind=Kind.PERSON,
        level="L3",
        result_class=cls,
        subject="TESTER TED 12/04/86",
        dangers=tuple(dict.fromkeys(words)),
        candidates=several,
        ask="ASK MIDDLE NAME",
        match="" if cls == "MULTIPLE" else "FULL",
    )
    check_pages(shown, pages(shown))
    check_texts(
        shown,
        rendering.texts(shown, short="C8A1", budget=budget, client_ref="12", clock_text="05:24"),
        budget,
    )


def test_the_whole_table_at_once() -> None:
    """All danger words of the shipped table together still stand on one page and one 73 part."""
    shown = View(
        outcome=Outcome.ANSWERED, level="L3", result_class="HIT_WANTED", dangers=SHOWN_TABLE
    )
    check_pages(shown, pages(shown))
    part = rendering.texts(shown, short="C8A1", budget=73, client_ref="123")[0]
    assert all(stands(word, part) for word in SHOWN_TABLE)


def test_a_table_that_does_not_fit_is_an_error_not_a_silence() -> None:
    """What settings.py lets not in is not cut here either."""
    words = tuple(Shown(f"WORD{n}", f"W{n}", f"{n:03}") for n in range(40))
    shown = View(outcome=Outcome.ANSWERED, level="L3", result_class="HIT_WANTED", dangers=words)
    with pytest.raises(rendering.TooManyWords):
        pages(shown)
    with pytest.raises(rendering.TooManyWords):
        rendering.texts(shown, short="C8A1", budget=73)


@settings(max_examples=60)
@given(QUESTIONS, st.sampled_from([Level.L3, Level.L4]), st.sampled_from(BUDGETS))
def test_no_marker_is_lost_on_the_way_to_the_screen(
    question: tuple[Key, PncAnswer], level: Level, budget: int
) -> None:
    """Words below danger, and those of weaker candidates, are shown however much is cut (I22)."""
    key, said = question
    shown = view(said, key, level)
    paged = " ".join(" ".join(page.split("\n")[:-1]) for page in pages(shown))
    texted = " ".join(
        part.split(" ", 2)[2].removesuffix(" OK=MORE")
        for part in rendering.texts(shown, short="C8A1", budget=budget)
    )
    for word in (*shown.cautions, *shown.others):
        for said_ in (paged, texted):
            assert stands(word, said_.replace(",", " ")), word


@settings(max_examples=60)
@given(QUESTIONS, st.sampled_from([Level.L3, Level.L4]))
def test_lossless_or_counted(question: tuple[Key, PncAnswer], level: Level) -> None:
    """Each detail is on the pages whole, or the last page says how many are not."""
    key, said = question
    shown = view(said, key, level)
    if shown.result_class == "NO_TRACE":
        return
    flat = " ".join(" ".join(page.split("\n")[:-1]) for page in pages(shown))
    lost = [each for each in shown.details if transliterate(each) not in flat]
    cut = re.search(r"\+(\d+) FIELDS: ASK CONTROL", flat)
    assert not lost or (cut is not None and int(cut.group(1)) >= len(lost))


@settings(max_examples=60)
@given(QUESTIONS, QUESTIONS, st.sampled_from(BUDGETS))
def test_l1_has_one_length(
    one: tuple[Key, PncAnswer], other: tuple[Key, PncAnswer], budget: int
) -> None:
    """Neither the page nor the message tells by its length what the tier is."""
    sizes = set()
    for key, said in (one, other):
        shown = view(said, key, Level.L1)
        made = rendering.texts(shown, short="C8A1", budget=budget, clock_text="05:24")
        sizes.add((len(made), len(made[0]), len(pages(shown)), len(pages(shown)[0])))
    assert len(sizes) == 1


@given(st.text(max_size=80))
def test_any_unicode_becomes_safe(name: str) -> None:
    """Upper-case printable ASCII; nothing that a name holds can forge a mark of ours."""
    plain = transliterate(name)
    assert plain.isascii()
    assert plain == plain.upper()
    assert not plain or plain.isprintable()
    assert "!" not in plain
    assert "??" not in plain
    assert ">" not in plain
    assert "_" not in plain
    assert transliterate(plain) == plain


@given(st.text(st.characters(codec="ascii"), max_size=80))
def test_plain_text_becomes_what_any_other_way_makes_of_it(text: str) -> None:
    """ASCII has a way of its own; a mark without width, which leaves no trace, bars it."""
    assert transliterate(text) == transliterate(f"{text}\u200b")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Seán O’Tester", "SEAN O'TESTER"),
        ("Straße", "STRASSE"),
        ("£5", "#5"),
        ("Łódź Ørsted", "LODZ ORSTED"),
        ("Иван", "?"),
        ("A\u202eB\u200dC", "ABC"),
        ("a\tb\nc", "A B C"),
        ("!!VIOLENT >>", "..VIOLENT .."),
        ("ﬁne", "FINE"),
    ],
)
def test_transliteration(name: str, expected: str) -> None:
    """Accents go, the pound is a hash, what has no ASCII is one question mark."""
    assert transliterate(name) == expected


def test_a_budget_that_cannot_be_safe_is_refused() -> None:
    """Below 73 bytes danger words could not all stand in part 1."""
    with pytest.raises(ValueError, match="73"):
        rendering.texts(view(answer(), NORA), short="C8A1", budget=72)


def test_driver_and_property_leads() -> None:
    """A driver on file without a ban says so; property on file without report is NO REPORTS."""
    driver = View(
        outcome=Outcome.ANSWERED, kind=Kind.DRIVER, level="L3", result_class="TRACE_CLEAR"
    )
    assert pages(driver)[0].startswith("TRACE - NO BAN\n")
    thing = msgspec.structs.replace(driver, kind=Kind.PROPERTY)
    assert pages(thing)[0].startswith("NO REPORTS\n")
    assert results.classify(answer(), WARNINGS) is ResultClass.NO_TRACE
    assert pages(view(answer(), DriverKey("X1")))[0].startswith("NO TRACE\nX1\nNOT PROOF OF ID")
