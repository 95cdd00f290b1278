"""A view as small screens (4 x 20) and as short messages, danger first (pure).

Rule 1: page 1 and part 1 are safe to act on alone: every danger word of the view is on them.
Rule 2: a word is never split, and what does not fit is said: `+n FIELDS: ASK CONTROL`.
Rule 3: no answer is `??NO ANSWER`; the words NO TRACE stand in nothing but a no-trace answer.
Rule 4: what is shown at L1 has one length, whatever the tier.
When danger words are too many to stand in full, they are shortened together, never dropped: each
alone (`!!VIOLENT` for VIOLENT OCCUPANT); then in three letters (`!!VIO`); then three letters in a
row behind one mark (`!!VIO WPN WTD`). Two words that share three letters share them.
Sources: console design, 18; pnc-domain reference, 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from gateway import results, sources
from gateway.messages import Kind, Outcome, Receipt, ResultClass
from gateway.policy import View
from gateway.results import Shown
from gateway.transliteration import transliterate

WIDTH = 20
ROWS = 4
CONTENT = ROWS - 1
"""Lines of a page above the one with reference and part."""
MOST_PAGES = 4
LEAST_BUDGET = 73
"""Bytes of a message that suffice for all danger words of a checked table (settings.py)."""
_FIELDS_CONSIDERED = 200
"""More cannot stand in four parts; the rest is counted, not packed."""


# --------------------------------------------------------------------------- times


def clock_text(ms: int, zone: str) -> str:
    """`05:24` local time of a moment in ms since the epoch. zone: `Europe/London`."""
    return _minute_text(ms // 60_000, zone)


@lru_cache(maxsize=64)
def _minute_text(minute: int, zone: str) -> str:
    return datetime.fromtimestamp(minute * 60, ZoneInfo(zone)).strftime("%H:%M")


def date_text(ms: int, zone: str) -> str:
    """`12/11/26`, local."""
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).strftime("%d/%m/%y")


def as_of_text(as_of_ms: int, now_ms: int, zone: str) -> str:
    """The time alone for today, the day for anything older: an old answer must look old."""
    if date_text(as_of_ms, zone) == date_text(now_ms, zone):
        return clock_text(as_of_ms, zone)
    return date_text(as_of_ms, zone)[:5]


# --------------------------------------------------------------------------- single lines


def receipt_text(receipt: Receipt) -> str:
    """The receipt as one line: `C7F3 SENT`, or `XX BUSY RETRY`."""
    front = f"Q{receipt.client_ref} " if receipt.client_ref else ""
    if receipt.accepted:
        return f"{front}{receipt.short} SENT"
    return f"{front}XX {transliterate(receipt.why)}"


_ASK_FIRST = (
    ">>RESULT WAITING. FREE TO SPEAK? ACK 15",
    ">>FREE TO SPEAK? ACK 15",
    ">>FREE? ACK 15",
    "ACK 15",
)


def waiting_text(short: str, view: View | None = None, *, budget: int = LEAST_BUDGET) -> str:
    """Before an answer that waits for its officer (phase 1): the danger words of its view, all of
    them, in at most `budget` bytes, and nothing else of it."""
    if view is None or not view.dangers:
        return f"{short} {_ASK_FIRST[0]}"
    several = view.candidates if view.result_class == ResultClass.MULTIPLE else 0
    # Where nothing is left of what tells one match from several, the words still stand.
    for many in dict.fromkeys((several, 0)):
        for form in _danger_forms(view.dangers, many):
            said = " ".join(form).replace("_-_", "-").replace("_", " ")
            for asking in _ASK_FIRST:
                text = f"{short} {said} {asking}"
                if len(text) <= budget:
                    return text
    raise TooManyWords("danger words do not fit before the prompt")


def held_text(short: str) -> str:
    """An operator must let the answer go first. The same, whatever it is."""
    return f"{short} WITH CONTROL. WAIT"


def withheld_text(short: str) -> str:
    """An operator refused it. The same, whatever it is."""
    return f"{short} NOT RELEASED. CALL CONTROL"


EARLY_CANCEL = "UNKNOWN REF. NOT ASKED IF IT COMES"
"""To an X that names what has not come: true, too, where it was named wrongly."""


def late_text(short: str) -> str:
    """The PNC replied after the outcome. Contentless: what it said is shown to nobody."""
    return f"{short} LATE REPLY. REPEAT CHECK"


def unrecorded_text(short: str) -> str:
    """The audit trail could not be written, so nothing was asked or may be shown."""
    return f"{short} ??NO ANSWER - CANNOT RECORD. TREAT AS UNKNOWN. USE VOICE"


notice_late = late_text


# --------------------------------------------------------------------------- what is said


class _Plan(msgspec.Struct, frozen=True):
    """One view in the order of console design 18.1, before it meets a width.

    dangers: words for `!!`. several: number of candidates when it is not known which one they are
    about, else 0. lead: what line 1 says when there is no danger. echo: what was asked.
    fields: the rest, each a whole that is shown or counted. `_` is a blank that does not break.
    """

    dangers: tuple[Shown, ...] = ()
    several: int = 0
    lead: tuple[str, ...] = ()
    echo: str = ""
    match: str = ""
    fields: tuple[str, ...] = ()


def _plan(view: View, zone: str) -> _Plan:
    plan = _plan_alone(view, zone)
    if not view.adds_to:
        return plan
    adds = f"ADDS TO {view.adds_to}"
    # Why there is no answer goes first.
    first = view.outcome is Outcome.ANSWERED
    fields = (adds, *plan.fields) if first else (*plan.fields, adds)
    return msgspec.structs.replace(plan, fields=fields)


def _plan_alone(view: View, zone: str) -> _Plan:
    if view.outcome is Outcome.REFUSED:
        to_do = view.advice or ("ASK CONTROL",)
        return _Plan(lead=("XXREFUSED",), fields=(transliterate(view.why), *to_do))
    if view.outcome is not Outcome.ANSWERED:
        cause = transliterate(view.why) or "PNC NO REPLY"
        return _Plan(lead=("??NO ANSWER",), fields=(cause, "TREAT AS UNKNOWN"))
    if not sources.police_asked(view.sources):
        return _status_plan(view, zone)
    if view.level == "L2":
        return _flags_plan(view, zone)
    echo = transliterate(view.subject)
    lead: tuple[str, ...] = ()
    early: list[str] = []
    if view.result_class == ResultClass.PARTIAL:
        lead, early, echo = ("??PART NOT CHECKED",), [*_unseen(view), *_rest(view, echo)], ""
    elif view.result_class == ResultClass.NO_TRACE:
        of = "ID" if view.kind in {Kind.PERSON, Kind.DRIVER} else "OWNER"
        return _Plan(
            lead=("NO TRACE",), echo=echo, fields=(f"NOT PROOF OF {of}", *_stale(view, zone))
        )
    elif view.result_class == ResultClass.TOO_MANY:
        lead, early = ("??TOO MANY MATCHES",), ["GIVE MORE DETAIL"]
    elif view.result_class == ResultClass.MULTIPLE:
        lead, early = (), [view.ask]
    elif view.result_class == ResultClass.RESTRICTED:
        if view.dangers:
            early = ["REFER TO BUREAU", "CALL CONTROL"]
        else:
            lead = ("REFER TO BUREAU", "CALL CONTROL")
    elif not view.dangers:
        lead = (_plain_lead(view),)
        if lead == ("NO REPORTS",):
            echo = f"{echo} CHECKED" if len(echo) <= WIDTH - 8 else echo
    several = view.candidates if view.result_class == ResultClass.MULTIPLE else 0
    cautions = [word for word in view.cautions if word.text not in lead]
    rest = [
        *(() if view.result_class == ResultClass.PARTIAL else _unseen(view)),
        *view.advice[:1],
        *(each for each in view.headlines if each not in lead),
    ]
    marked = [*_caution_fields(cautions), *_other_fields(view.others)]
    return _Plan(
        dangers=view.dangers,
        several=several,
        lead=lead,
        echo=echo,
        match=view.match,
        fields=tuple(
            field
            for field in (
                *marked,
                *early,
                *rest,
                *map(_identity, view.identity),
                *_stale(view, zone),
                *_tail(view),
                *_said(view, zone),
            )
            if field
        ),
    )


def _plain_lead(view: View) -> str:
    """Line 1 of an answer without danger words."""
    clear = view.result_class == ResultClass.TRACE_CLEAR
    if clear and view.kind in {Kind.VEHICLE, Kind.PROPERTY}:
        return "NO REPORTS"
    if clear:
        return "TRACE - NO MARKERS" if view.kind is Kind.PERSON else "TRACE - NO BAN"
    if view.cautions:
        return view.cautions[0].text
    return view.headlines[0] if view.headlines else "TRACE - SEE DETAIL"


def _status_plan(view: View, zone: str) -> _Plan:
    """Tax, MOT and insurance alone: that nobody asked the police comes first, that it is read."""
    return _Plan(
        lead=("POLICE: NOT ASKED" if not view.adds_to else "POLICE: AS SAID",),
        echo=transliterate(view.subject),
        fields=tuple(
            field
            for field in (
                _flags(view),
                *_unseen(view),
                *map(_identity, view.identity),
                *_tail(view),
                *_said(view, zone),
            )
            if field
        ),
    )


def _flags(view: View) -> str:
    return " ".join(f"{name}_{transliterate(value)}" for name, value in view.flags.items())


def _said(view: View, zone: str) -> list[str]:
    """As of when each source of the register was so: `DVLA 04:12 MID 05:24`, a line just filled."""
    said = [
        f"{each.source} {as_of_text(each.as_of_ms, view.asked_at_ms, zone)}"
        for each in view.sources
        if each.source in sources.REGISTER_SOURCES and each.state == sources.ASKED
    ]
    return [" ".join(said)] if said else []


def _flags_plan(view: View, zone: str) -> _Plan:
    lead = () if view.dangers else (f"SAFETY: {view.tier}",)
    flags = _flags(view)
    advice = view.advice[:1] if view.dangers else ()
    doubt = ("??PART NOT CHECKED",) if sources.PNC in view.not_checked else ()
    fields = (*doubt, flags, *advice, *_unseen(view), *_tail(view), *_said(view, zone))
    return _Plan(
        dangers=view.dangers,
        lead=lead,
        echo=transliterate(view.subject),
        fields=tuple(field for field in fields if field),
    )


def _unseen(view: View) -> list[str]:
    return [f"{transliterate(source)}: NO REPLY" for source in view.not_checked]


def _rest(view: View, echo: str) -> list[str]:
    """What may be said of the rest when a source did not reply: no reports, or unknown."""
    told = set(view.not_checked) <= results.SIDE_SOURCES
    if told and view.kind is Kind.VEHICLE and view.candidates and not view.cautions:
        return [f"{echo} NO REPORTS"]
    return ["TREAT AS UNKNOWN", _short_echo(echo)]


def _stale(view: View, zone: str) -> list[str]:
    return [
        f"{transliterate(source)} AS AT {date_text(as_of_ms, zone)}"
        for source, as_of_ms in view.stale
    ]


def _tail(view: View) -> list[str]:
    return [transliterate(each) for each in view.details]


def _identity(text: str) -> str:
    # Two blanks part what it is from its colour (console design, 18.2).
    return "  ".join(filter(None, map(transliterate, text.split("  "))))


def _caution_fields(words: Sequence[Shown]) -> list[str]:
    """Words below danger: in full while they are few, else in three letters; never dropped."""
    if not words:
        return []
    full = list(dict.fromkeys(_solid(word.text) for word in words))
    if len(", ".join(full)) <= 2 * WIDTH:
        return [", ".join(full)]
    return [" ".join(_shorts(words))]


def _other_fields(words: Sequence[Shown]) -> list[str]:
    """Words of weaker candidates: they are not the best match, but they may be the person."""
    if not words:
        return []
    full = list(dict.fromkeys(_solid(word.text) for word in words))
    if len(", ".join(full)) <= WIDTH:
        return ["OTHER MATCH: " + ", ".join(full)]
    return ["OTHERS: " + " ".join(_shorts(words))]


def _shorts(words: Iterable[Shown]) -> list[str]:
    return list(dict.fromkeys(word.short for word in words))


def _solid(text: str) -> str:
    """One token that no line break goes through."""
    return text.replace(" ", "_")


# --------------------------------------------------------------------------- danger words


def _danger_forms(words: Sequence[Shown], several: int) -> Iterator[list[str]]:
    """The ways to say these danger words, longest first: the rule of the module's head."""
    if several:
        yield [f"!!ONE_IS_{_solid(base)}" for base in dict.fromkeys(w.base for w in words)]
        yield ["!!ONE_IS", *_shorts(words)]
        return
    yield [f"!!{_solid(text)}" for text in dict.fromkeys(word.text for word in words)]
    yield [f"!!{_solid(base)}" for base in dict.fromkeys(word.base for word in words)]
    yield [f"!!{short}" for short in _shorts(words)]
    first, *more = _shorts(words)
    yield [f"!!{first}", *more]


def _danger_lines(plan: _Plan, rows: int) -> list[str] | None:
    for form in _danger_forms(plan.dangers, plan.several):
        lines = _fill(form, WIDTH)
        if lines is not None and len(lines) <= rows:
            return lines
    return None


class TooManyWords(ValueError):
    """The danger words do not fit on one page: settings.py lets no such table in."""


# --------------------------------------------------------------------------- screens


def laid_out(
    view: View,
    *,
    short: str,
    budget: int,
    client_ref: str = "",
    clock_text: str = "",
    zone: str = "Europe/London",
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`screens` and `texts` of one view, from one plan."""
    plan = None if _tier_alone(view) else _plan(view, zone)
    pages = screens(view, short=short, clock_text=clock_text, plan=plan)
    told = texts(
        view, short=short, budget=budget, client_ref=client_ref, clock_text=clock_text, plan=plan
    )
    return pages, told


def _tier_alone(view: View) -> bool:
    return view.level == "L1" and view.outcome is Outcome.ANSWERED


def screens(
    view: View,
    *,
    short: str,
    clock_text: str,
    zone: str = "Europe/London",
    repeated: bool = False,
    reference: str = "",
    plan: _Plan | None = None,
) -> tuple[str, ...]:
    """1 to 4 pages of 4 lines of at most 20 characters, joined by newlines.

    short: the check's 4 characters. clock_text: as-of time (`05:24`, or `12/11` for an old one).
    reference: shown on a refusal. Any Unicode in the view is transliterated.
    """
    if _tier_alone(view):
        advice = [*view.advice, "", ""][:2]
        lines = [f"SAFETY: {view.tier}", *advice, f"{short} 1/1 {clock_text}"]
        return ("\n".join(line.ljust(WIDTH) for line in lines),)
    plan = plan or _plan(view, zone)
    lead, fields, tail = _lead(plan)
    match = f"MATCH:{plan.match}" if plan.match else ""
    fields = [field for field in fields if field]
    pages = _pages(lead, [match, *fields] if match else fields)
    if match and len(pages) > 1 and not tail:
        # The sure place of `how sure` is the foot of page 1, where it costs no line.
        without = _pages(lead, fields)
        if len(without) > 1:
            pages, tail = without, match
    last = len(pages)
    for place, page in enumerate(pages, 1):
        front = f"{short} {place}/{last}"
        foot = f"{front} {clock_text}"
        if view.outcome in {Outcome.EXPIRED, Outcome.FAILED}:
            foot = f"{short} CONTROL TOLD" if last == 1 else front
        elif view.outcome is Outcome.REFUSED:
            foot = f"{short} REF {transliterate(reference)}" if reference else foot
        elif place == 1 and tail:
            foot = f"{front} {tail}"
        elif place == 1 and repeated:
            foot = f"{front} AS AT {clock_text}"
        elif place < last:
            foot = f"{front}    OK=MORE"
        elif plan.several and last == 1:
            foot = f"{front} OK=SEND"
        else:
            of = sources.PNC if sources.police_asked(view.sources) else sources.DVLA
            foot = f"{front} {clock_text} {of}"
        page.append(foot[:WIDTH].rstrip())
    shown = tuple("\n".join(page).replace("_", " ") for page in pages)
    return repeated_pages(shown, clock_text=clock_text) if repeated else shown


def repeated_pages(pages: Sequence[str], *, clock_text: str) -> tuple[str, ...]:
    """Stored pages of an answer as they are shown again: page 1 says `AS AT`.

    How sure the match is moves from its foot to that of page 2; nothing else changes.
    """
    if not pages:
        return ()
    split = [page.split("\n") for page in pages]
    foot = split[0][-1]
    blanks = all(len(line) == WIDTH for line in split[0])
    front, was = foot[:8].rstrip(), foot[8:].strip()
    new = f"{front} AS AT {clock_text}"[:WIDTH]
    split[0][-1] = new.ljust(WIDTH) if blanks else new
    if was.startswith(("MATCH:", "??")) and len(split) > 1:
        split[1][-1] = f"{split[1][-1][:8].rstrip()} {was}"
    return tuple("\n".join(page) for page in split)


def _lead(plan: _Plan) -> tuple[list[str], list[str], str]:
    """(lines that must stand on page 1, fields that follow, what page 1's foot must say)."""
    fields = [*plan.fields]
    echo = _short_echo(plan.echo)
    if plan.several:
        many = f"??{plan.several} POSSIBLE MATCHES"
        many = many if len(many) <= WIDTH else many[: WIDTH - 1]
        if not plan.dangers:
            return [many], [*fields, echo], ""
        lines = _danger_lines(plan, CONTENT - 1)
        if lines is not None and len(lines) == 1:
            # What would tell them apart goes between, as there is room (console design, 18.2).
            ask = next((f for f in fields if f.startswith(("ASK ", "GIVE "))), "")
            fields = [f for f in fields if f != ask]
            return [many, *([ask] if ask else []), *lines], [*fields, echo], ""
        if lines is not None:
            return [many, *lines], [*fields, echo], ""
        return _must(plan), [*fields, echo], f"??{plan.several} MATCH"
    if not plan.dangers:
        return [*plan.lead], ([echo] if echo else []) + fields, ""
    lines = _must(plan)
    if plan.lead:
        # Danger goes before doubt; the doubt is the next thing said.
        fields = [*plan.lead, *fields]
    if not echo:
        return lines, fields, ""
    for gap in ("  ", " "):
        if " " not in echo and "!!" not in lines[0][2:] and len(lines[0] + gap + echo) <= WIDTH:
            return [lines[0] + gap + echo, *lines[1:]], fields, ""
    if len(lines) < CONTENT and len(echo) <= WIDTH:
        return [*lines, echo], fields, ""
    return lines, [echo, *fields], ""


def _must(plan: _Plan) -> list[str]:
    lines = _danger_lines(plan, CONTENT) or _danger_lines(
        msgspec.structs.replace(plan, several=0), CONTENT
    )
    if lines is None:
        raise TooManyWords("danger words do not fit on page 1")
    return lines


def _short_echo(echo: str) -> str:
    """What was asked, on one line when a first name's initial makes it so. The asker knows it."""
    if len(echo) <= WIDTH:
        return echo
    words = echo.split(" ")
    born = words[-1] if len(words) > 2 and words[-1][:1].isdigit() else ""
    names = words[:-1] if born else words
    if len(names) > 1:
        for keep in (len(names) - 1, 1):
            initials = " ".join(each[0] for each in names[keep:])
            line = " ".join(filter(None, (*names[:keep], initials, born)))
            if len(line) <= WIDTH:
                return line
    return echo


def _pages(lead: list[str], fields: list[str]) -> list[list[str]]:
    """Lines in pages of three, whole fields only; what does not fit is counted at the end."""
    most = MOST_PAGES * CONTENT
    blocks = [_wrap(field, WIDTH) for field in fields[:_FIELDS_CONSIDERED]]
    over = sum(1 for block in blocks if block is None)
    over += max(0, len(fields) - _FIELDS_CONSIDERED)
    kept = [block for block in blocks if block is not None]
    while True:
        lines = [*lead, *(line for block in kept for line in block)]
        if over:
            lines += [f"+{over} FIELDS:", "ASK CONTROL"]
        if len(lines) <= most:
            break
        kept.pop()
        over += 1
    return [lines[at : at + CONTENT] for at in range(0, len(lines), CONTENT)]


def _wrap(field: str, width: int) -> list[str] | None:
    """Lines of whole words; None when a word is longer than a line."""
    if len(field) <= width:
        return [field]
    return _fill(field.split(), width)


def _fill(words: Iterable[str], width: int) -> list[str] | None:
    lines: list[str] = []
    row: list[str] = []
    taken = 0
    for word in words:
        size = len(word)
        if size > width:
            return None
        if row and taken + 1 + size <= width:
            row.append(word)
            taken += 1 + size
            continue
        if row:
            lines.append(" ".join(row))
        row, taken = [word], size
    if row:
        lines.append(" ".join(row))
    return lines


# --------------------------------------------------------------------------- messages


def texts(
    view: View,
    *,
    short: str,
    budget: int,
    client_ref: str = "",
    clock_text: str = "",
    zone: str = "Europe/London",
    plan: _Plan | None = None,
) -> tuple[str, ...]:
    """1 to 4 messages of at most `budget` bytes: `Q12 C8A1 1/2 !!WEAPONS ...`.

    budget: bytes a message, at least 73. client_ref: the terminal's own, at most 3 digits.
    The last one ends with the as-of time, so a repeated answer shows its age.
    """
    if budget < LEAST_BUDGET:
        raise ValueError(f"budget: at least {LEAST_BUDGET} bytes, not {budget}")
    front = f"Q{transliterate(client_ref)[:3]} {short}" if client_ref else short
    room = budget - len(f"{front} 1/1 ")
    as_at = f"AS AT {clock_text}".replace(" ", "_") if clock_text else ""
    if _tier_alone(view):
        body = _tier_text(view.tier, view.advice) + (f". {as_at}" if as_at else "")
        return (f"{front} 1/1 {body.replace('_', ' ').ljust(_tier_length(as_at))}",)
    plan = plan or _plan(view, zone)
    first, fields = _first_sentence(plan, room)
    if view.outcome in {Outcome.EXPIRED, Outcome.FAILED}:
        fields = [*fields, "CONTROL TOLD"]
    parts = _parts(first, fields, as_at, room)
    shown = [part.replace("_", " ") for part in parts]
    more = " OK=MORE"
    for place, part in enumerate(shown[:-1]):
        if len(part) + len(more) <= room:
            shown[place] = part + more
    return tuple(f"{front} {n}/{len(shown)} {part}" for n, part in enumerate(shown, 1))


_TIER_TEXT = 46
"""What a 73-byte part has room for beside reference, client reference and as-of time."""


def _tier_text(name: str, advice: Sequence[str]) -> str:
    """All the advice if it fits, else its first line (pnc-domain, 13)."""
    line = f"SAFETY: {name} - {', '.join(advice)}"
    return line if len(line) <= _TIER_TEXT else f"SAFETY: {name} - {advice[0]}"


def _tier_length(as_at: str) -> int:
    longest = max(len(_tier_text(tier.name, tier.advice)) for tier in results.tiers())
    return longest + (len(f". {as_at}") if as_at else 0)


def _first_sentence(plan: _Plan, room: int) -> tuple[list[str], list[str]]:
    """Words that part 1 begins with, danger words sure to fit it, and the fields that follow."""
    fields = [*plan.fields]
    if plan.lead and plan.lead[0] in {"??NO ANSWER", "XXREFUSED"}:
        gap = ["-"] if plan.lead[0] == "??NO ANSWER" else []
        return [_solid(plan.lead[0]), *gap, *fields[0].split()], fields[1:]
    lead = [word for line in plan.lead for word in line.split()]
    echo = plan.echo.split()
    match = [f"MATCH:{plan.match}"] if plan.match else []
    if not plan.dangers:
        if plan.several:
            lead = [f"??{plan.several}", "POSSIBLE", "MATCHES"]
        return [*lead, *echo, *match], fields
    if plan.lead:
        # Danger goes before doubt; the doubt is the next thing said.
        fields = [" ".join(plan.lead), *fields]
    if not plan.several:
        return [*_danger_row(plan, room), *echo, *match], fields
    for count in (f"??{plan.several}_POSSIBLE_MATCHES", f"??{plan.several}"):
        row = _danger_row(plan, room - len(count) - 1)
        if row:
            return [count, *row, *echo], fields
    alone = _danger_row(msgspec.structs.replace(plan, several=0), room)
    return [*alone, f"??{plan.several}_POSSIBLE_MATCHES", *echo], fields


def _danger_row(plan: _Plan, room: int) -> list[str]:
    """Danger words that fit one message; () only where there is a shorter way to say it."""
    for form in _danger_forms(plan.dangers, plan.several):
        # A dash spares its blanks, so that more words stand in full.
        row = [word.replace("_-_", "-") for word in form]
        if len(" ".join(row)) < room:
            return row
    if plan.several:
        return []
    raise TooManyWords("danger words do not fit in part 1")


def _parts(first: list[str], fields: list[str], as_at: str, room: int) -> list[str]:
    kept = [field.split() for field in fields[:_FIELDS_CONSIDERED]]
    long = [words for words in kept if max(map(len, words), default=0) >= room]
    over = len(long) + max(0, len(fields) - _FIELDS_CONSIDERED)
    kept = [words for words in kept if words not in long]
    if any(len(word) >= room for word in first):
        over += 1
        first = [word for word in first if len(word) < room]
    while True:
        sentences = [first, *kept]
        if over:
            sentences.append([f"+{over}_FIELDS:_ASK_CONTROL"])
        if as_at:
            sentences.append([as_at])
        words: list[str] = []
        for sentence in sentences:
            words += sentence
            if sentence and not words[-1].endswith((".", "?", ":")):
                words[-1] += "."
        words[-1] = words[-1].removesuffix(".")
        parts = _fill(words, room) or [""]
        if len(parts) <= MOST_PAGES or not kept:
            return parts[:MOST_PAGES]
        kept.pop()
        over += 1
