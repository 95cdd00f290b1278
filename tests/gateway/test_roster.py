"""Who holds which terminal, and where it was heard."""

from __future__ import annotations

import msgspec

from gateway.rulebook import Fleet, People, Terminal
from tests.gateway.strategies import AREAS, FLEET, PEOPLE, held_by, roster

ISSI = "5001001"


def changed(**more: object) -> Fleet:
    """The shipped fleet with another first terminal."""
    first: Terminal = msgspec.structs.replace(FLEET.terminals[0], **more)
    return msgspec.structs.replace(FLEET, terminals=(first, *FLEET.terminals[1:]))


def held_otherwise(collar: str = "", **more: str) -> People:
    """The shipped people with another holder of the first terminal."""
    return held_by(PEOPLE, ISSI, collar, **more)


def test_holder_is_the_officer_on_the_radio() -> None:
    """Stable for one officer and radio, different for each, empty for a stranger."""
    held = roster()
    holders = {held.holder(each.issi) for each in held.terminals()}
    assert len(holders) == len(FLEET.terminals)
    assert held.holder(ISSI) == roster().holder(ISSI) == "police:1001@5001001"
    assert held.holder("999") == ""
    assert held.terminal("999") is None


def test_the_asker_is_the_officer_with_the_radio_in_hand() -> None:
    """Person from the people's file, radio from the fleet's; the agency is the person's."""
    first = msgspec.structs.replace(FLEET.terminals[0], agency="council", device_class="tetra")
    held = roster(msgspec.structs.replace(FLEET, terminals=(first, *FLEET.terminals[1:])))
    asker = held.asker(ISSI)
    assert asker is not None
    assert (asker.issi, asker.callsign, asker.area, asker.device_class) == (
        ISSI,
        "E-101",
        "Eastern",
        "tetra",
    )
    assert (asker.officer, asker.surname, asker.rank) == ("1001", "TESTER", "PC")
    assert (asker.agency, asker.role, asker.booking) == ("police", "constable", "standing")
    officer = held.officer("1001")
    assert officer is not None
    assert officer.surname == "TESTER"


def test_without_a_booking_there_is_no_asker() -> None:
    """Nor for an officer or a radio that is revoked; the radio itself is still known, or gone."""
    lost = changed(revoked=True)
    nobody = held_by(PEOPLE, ISSI)
    for held in (
        roster(people=nobody),
        roster(people=held_otherwise(revoked=True)),
        roster(lost),
    ):
        assert held.asker(ISSI) is None
        assert held.holder(ISSI) == held.booking(ISSI) == ""
        assert all(meta.booked != (meta.terminal == ISSI) for meta in held.metas(1))
    assert roster(people=nobody).terminal(ISSI) is not None
    assert roster(people=held_otherwise(revoked=True)).officer("1001") is None
    assert roster(lost).terminal(ISSI) is None
    assert roster(lost).nobody(ISSI) is None


def test_a_protocol_may_call_a_radio_otherwise() -> None:
    """By its own name there, letter for letter, and as the newest file says; a revoked one is still
    told from a stranger."""
    held = roster(changed(names={"x": "nora/phone", "y": "TRK1"}))
    assert (held.called("x", "nora/phone"), held.called("y", "TRK1")) == (ISSI, ISSI)
    for stranger in (("x", "TRK1"), ("x", "Nora/phone"), ("x", ISSI), ("", ""), ("z", "TRK1")):
        assert held.called(*stranger) == ""
    held.replace(changed(names={"x": "nora/tablet"}, revoked=True), PEOPLE, AREAS)
    assert (held.called("x", "nora/tablet"), held.called("x", "nora/phone")) == (ISSI, "")


def test_new_files_tell_what_changed() -> None:
    """Added, removed, given to another officer or to nobody; a new role or area alone is no new
    holder."""
    held = roster()
    was = held.holder(ISSI)
    promoted = held_otherwise(role="sergeant")
    assert held.replace(changed(area="Southern"), promoted, AREAS).reassigned == ()
    assert held.holder(ISSI) == was
    asker = held.asker(ISSI)
    assert asker is not None
    assert (asker.role, asker.area) == ("sergeant", "Southern")
    assert held.replace(FLEET, held_otherwise("9999"), AREAS).reassigned == (ISSI,)
    assert held.holder(ISSI) != was
    assert held.replace(FLEET, held_by(PEOPLE, ISSI), AREAS).reassigned == (ISSI,)
    assert held.replace(FLEET, PEOPLE, AREAS).reassigned == (ISSI,)
    assert held.replace(FLEET, held_otherwise(revoked=True), AREAS).reassigned == (ISSI,)
    changes = held.replace(changed(issi="5009999"), PEOPLE, AREAS)
    assert (changes.added, changes.removed, changes.reassigned) == (("5009999",), (ISSI,), ())
    assert held.holder(ISSI) == ""
    assert held.replace(FLEET, PEOPLE, AREAS).added == (ISSI,)
    assert held.replace(changed(revoked=True), PEOPLE, AREAS).removed == (ISSI,)


def test_last_heard_link() -> None:
    """The latest link first; an older time does not move it back; strangers are not kept."""
    held = roster()
    assert held.link_of(ISSI) == ""
    assert held.heard_at_s(ISSI) is None
    held.heard(ISSI, "serial-east", 10.0)
    held.heard(ISSI, "mqtt", 11.0)
    held.heard(ISSI, "serial-east", 9.0)
    assert held.links_of(ISSI) == ("mqtt", "serial-east")
    assert held.heard_at_s(ISSI) == 11.0
    held.heard("999", "mqtt", 12.0)
    assert held.link_of("999") == ""
    held.replace(FLEET, PEOPLE, AREAS)
    assert held.link_of(ISSI) == "mqtt"


def test_status_is_shown_until_another_officer_holds_it() -> None:
    """A pre-coded status of the fleet file shows; unknown ones and strangers change nothing."""
    held = roster()
    meta = held.meta(ISSI, 5)
    assert meta is not None
    assert (meta.status, meta.callsign, meta.t_ms) == ("AVL", "E-101", 5)
    held.status(ISSI, 5)
    held.status(ISSI, 77)
    held.status("999", 5)
    assert [each.status for each in held.metas(6)].count("RTE") == 1
    held.replace(FLEET, held_otherwise("9999"), AREAS)
    again = held.meta(ISSI, 7)
    assert again is not None
    assert again.status == "AVL"


def test_the_feed_never_hears_of_the_officer() -> None:
    """A unit's meta holds neither collar nor surname; one that is gone holds nothing at all."""
    held = roster(people=held_otherwise("COLLAR77", surname="TESTER-SURNAME"))
    shown = str(held.metas(1)) + str(held.gone(ISSI, 2))
    assert "COLLAR77" not in shown
    assert "SURNAME" not in shown
    assert held.gone(ISSI, 2).gone
    assert held.meta("999", 1) is None
