"""Who holds which terminal, and where it was heard."""

from __future__ import annotations

import msgspec

from gateway.roster import Roster
from gateway.rulebook import Fleet, Terminal
from tests.gateway.strategies import FLEET

ISSI = "5001001"


def changed(**more: str) -> Fleet:
    """The shipped fleet with another first terminal."""
    first: Terminal = msgspec.structs.replace(FLEET.terminals[0], **more)
    return msgspec.structs.replace(FLEET, terminals=(first, *FLEET.terminals[1:]))


def test_holder_is_the_officer_on_the_radio() -> None:
    """Stable for one officer and radio, different for each, empty for a stranger."""
    roster = Roster(FLEET)
    holders = {roster.holder(each.issi) for each in roster.terminals()}
    assert len(holders) == len(FLEET.terminals)
    assert roster.holder(ISSI) == Roster(FLEET).holder(ISSI)
    assert roster.holder("999") == ""
    assert roster.terminal("999") is None


def test_a_new_file_tells_what_changed() -> None:
    """Added, removed and given to another officer; a new role or area alone is no new holder."""
    roster = Roster(FLEET)
    was = roster.holder(ISSI)
    assert roster.replace(changed(role="sergeant", area="Southern")).reassigned == ()
    assert roster.holder(ISSI) == was
    assert roster.replace(changed(officer="9999")).reassigned == (ISSI,)
    assert roster.holder(ISSI) != was
    changes = roster.replace(changed(issi="5009999"))
    assert (changes.added, changes.removed, changes.reassigned) == (("5009999",), (ISSI,), ())
    assert roster.holder(ISSI) == ""


def test_last_heard_link() -> None:
    """The latest link first; an older time does not move it back; strangers are not kept."""
    roster = Roster(FLEET)
    assert roster.link_of(ISSI) == ""
    assert roster.heard_at_s(ISSI) is None
    roster.heard(ISSI, "serial-east", 10.0)
    roster.heard(ISSI, "mqtt", 11.0)
    roster.heard(ISSI, "serial-east", 9.0)
    assert roster.links_of(ISSI) == ("mqtt", "serial-east")
    assert roster.heard_at_s(ISSI) == 11.0
    roster.heard("999", "mqtt", 12.0)
    assert roster.link_of("999") == ""
    roster.replace(FLEET)
    assert roster.link_of(ISSI) == "mqtt"


def test_status_is_shown_until_another_officer_holds_it() -> None:
    """A pre-coded status of the fleet file shows; unknown ones and strangers change nothing."""
    roster = Roster(FLEET)
    meta = roster.meta(ISSI, 5)
    assert meta is not None
    assert (meta.status, meta.callsign, meta.t_ms) == ("AVL", "E-101", 5)
    roster.status(ISSI, 5)
    roster.status(ISSI, 77)
    roster.status("999", 5)
    assert [each.status for each in roster.metas(6)].count("RTE") == 1
    roster.replace(changed(officer="9999"))
    again = roster.meta(ISSI, 7)
    assert again is not None
    assert again.status == "AVL"


def test_the_feed_never_hears_of_the_officer() -> None:
    """A unit's meta holds neither collar nor surname; one that is gone holds nothing at all."""
    roster = Roster(changed(officer="COLLAR77", surname="TESTER-SURNAME"))
    shown = str(roster.metas(1)) + str(roster.gone(ISSI, 2))
    assert "COLLAR77" not in shown
    assert "SURNAME" not in shown
    assert roster.gone(ISSI, 2).gone
    assert roster.meta("999", 1) is None
