"""Personal data in no output: planted words are searched in everything the daemon says to ops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.services.mosquitto import Mosquitto
from tests.system.daemon import until
from tests.system.ledgers import audit, canaries
from tests.system.world import World

WITHIN_S = 10.0
PLANTED = ("TE99KWN", "TE99STV", "WANDA", "SYNTHA", "1988-06-06", "06061988", "52.5725", "52572500")
ISSIS = ("5001001", "5001002", "5001003", "5001006", "5001010")


async def test_no_name_mark_birth_date_issi_or_place_in_any_output(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """Journal, stderr, /metrics, /readyz, error pages and the command line: not one canary.

    The audit's records hold identities of terminals, on purpose, but no subject.
    """
    world = World(tmp_path, mosquitto.port)
    try:
        await world.open()
        daemon = world.daemon
        assert daemon is not None
        radio = world.radios["5001006"]
        officer = world.lines["5001001"]
        await radio.say("fix", {"lat": 52.5725, "lon": -0.2431}, qos=1)
        refs = [
            await radio.ask(
                kind="person", surname="TESTER", forenames="WANDA", dob="1988-06-06", reason="1"
            ),
            await radio.ask(kind="vehicle", vrm="TE99KWN", reason="1"),
            await radio.ask(kind="person", surname="SYNTHA", forenames="", reason="1"),
        ]
        number = officer.ask("V TE99STV R1")
        for ref in refs:
            await radio.until(lambda r=ref: radio.result(r), WITHIN_S)
        await officer.until(lambda: officer.parts(number), WITHIN_S)
        await radio.say("check", b'{"ref": "x", "kind": "vehicle", "vrm": "TE99KWN", "issi": "1"}')
        await radio.say("check", b'{"ref": "y", "vrm": "TE99KWN", "reason": ["WANDA"]}')
        officer.say("V TE99STV WANDA")
        await until(lambda: len(audit(daemon.state)) > 20)
        outputs: dict[str, bytes] = {}
        for path in ("/metrics", "/healthz", "/readyz", "/api/v1/checks/TE99KWN", "/TE99KWN"):
            _, outputs[path] = await daemon.get(path)
        outputs["process title"] = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()  # noqa: ASYNC240
        assert await daemon.stop() == 0
        outputs["journal"] = daemon.output.read_bytes()
        outputs["stderr"] = daemon.errors.read_bytes()
        assert len(outputs["journal"].splitlines()) > 10
    finally:
        await world.close()
    words = canaries([*PLANTED, *ISSIS])
    assert len(words) > 50
    for name, said in outputs.items():
        found = [word for word in words if word in said]
        assert found == [], f"{name} holds {found}"
    subjects = canaries(PLANTED)
    for leaf in audit(daemon.state):
        found = [word for word in subjects if word in leaf.raw]
        assert found == [], f"record {leaf.seq} ({leaf['event']}) holds a subject"


@pytest.mark.parametrize("word", ["TE99KWN", "5001001"])
def test_the_search_finds_what_is_hidden(word: str) -> None:
    """The test above could fail: each disguise is found."""
    import base64

    raw = word.encode()
    hidden = [
        b"x" + raw + b"y",
        b"x" + raw.hex().encode(),
        base64.b64encode(os.urandom(3) + raw + b"zz"),
        base64.b64encode(os.urandom(4) + raw + b"zz"),
        word.encode("utf-16-le"),
    ]
    for each in hidden:
        assert any(canary in each for canary in canaries([word])), each
