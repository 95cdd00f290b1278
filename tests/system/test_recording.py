"""A daemon that records a line: on record first, by whom; sealed; nobody's PIN in it; and what is
made of it when it is played again is what the daemon made of it."""

from __future__ import annotations

import asyncio
import os
import re
import tty
from pathlib import Path
from typing import Any

import pytest

from adapters.recordings import Heard, Recorder, opened, read_key
from gateway import app, replay
from gateway.app import Gateway, load
from gateway.messages import Event, LinkChanged, LinkState
from simulators import tetra_air as air
from simulators.tetra_mobile import Mobile
from tests.chain import audit
from tests.fakes import FakeJournal
from tests.system.cell import cell
from tests.system.daemon import Daemon
from tests.system.test_recorded_logs import play, until

ISSI, N201 = "5001001", "5001005"
PIN = "4711"
SAID = f"B 1001 {PIN}\r\n#S 4\r\n$GPRMC,damaged*00\r\n".encode()


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_line_is_recorded(
    tmp_path: Path, sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = app.recording_key(tmp_path / "faults.key")
    master, slave = os.openpty()
    tty.setraw(slave)
    record: dict[str, Any] = {"links": ["line"], "by": "synthA", "why": "fault 7"}
    files = Daemon(
        tmp_path,
        lines={"line": (os.ttyname(slave), ISSI)},
        sections={"record": record | ({"public_key_file": str(public)} if sealed else {})},
    )
    order: list[str] = []
    begin = Recorder.begin

    def begun(recorder: Recorder) -> None:
        order.extend(each["operation"] for each in audit(files.state) if each["operation"])
        begin(recorder)

    monkeypatch.setattr(Recorder, "begin", begun)
    gateway = Gateway(load(files.config), journal=FakeJournal())
    seen: list[Event] = []
    gateway.bus.tap(seen.append)
    running = asyncio.ensure_future(gateway.run())
    try:
        await until(
            lambda: (
                running.done()
                or any(isinstance(e, LinkChanged) and e.state is LinkState.UP for e in seen)
            )
        )
        await play(master, SAID)
        await until(lambda: 'reason="crc"} 1.0' in gateway.meter.render().decode())
    finally:
        gateway.stop()
        await running
        os.close(master)
        os.close(slave)
    assert order[-1] == "recording.on", "recorded before it was on record"
    (on,) = [each for each in audit(files.state) if each["operation"] == "recording.on"]
    assert on["operator"] == "synthA"
    assert on["detail"].startswith("line sealed with " if sealed else "line not sealed")
    (path,) = (files.state / "recordings").glob("*.rgrec")
    data = path.read_bytes()
    assert PIN.encode() not in data
    assert (b"#S 4" in data) != sealed
    recording = opened(data, read_key(tmp_path / "faults.key") if sealed else None)
    heard = b"".join(e.data for e in recording.items() if isinstance(e, Heard))
    assert heard == SAID.replace(PIN.encode(), b"0000")
    assert not recording.cut
    (link,) = recording.about.links
    assert (link.kind, link.codec, link.section["terminal"]) == ("serial", "line_terminal", ISSI)
    live = decided(gateway.meter.render().decode())
    made = await replay.play(
        replay.read([path], tmp_path / "faults.key" if sealed else None), load(files.config)
    )
    assert decided("\n".join(f"gateway_{name} {n}" for name, n in made.counts.items())) == live
    assert len(live) >= 3


def decided(text: str) -> dict[str, float]:
    """What was made of each frame, of the metrics' text."""
    found = re.findall(r"^gateway_(frames_\w+_total\{[^}]*\}) ([0-9.]+)$", text, re.M)
    return {
        ",".join(sorted(re.findall(r'\w+="[^"]*"', name))): float(n)
        for name, n in found
        if float(n) and "sent" not in name
    }


@pytest.mark.slow
@pytest.mark.parametrize("coding", [air.LATIN_1, air.GSM_7BIT, air.UTF_16])
async def test_a_radio_is_recorded_and_played_again(tmp_path: Path, coding: int) -> None:
    """Booked over the air: in no coding is the factor in the recording, and what was made of it
    is made again, with a configuration that asks a PNC elsewhere."""
    handset = Mobile(coding=coding)
    async with cell(
        tmp_path,
        issis=(N201,),
        mobiles={N201: handset},
        sections={"record": {"links": ["tetra-0"], "by": "synthA", "why": "fault 7"}},
    ) as here:
        officer = here.radio(N201)
        officer.say(f"B 1001 {PIN}")
        await here.told(officer, "B")
        assert await here.answered(officer, "V TE99STV R1")
        officer.emergency(sure=True)
        await here.on_record("emergency", terminal=N201)
        config, state = here.daemon.config, here.daemon.state
        assert await here.daemon.stop() == 0  # a crash may cost the last quarter of a second
    (path,) = (state / "recordings").glob("*.rgrec")
    recording = opened(path.read_bytes())
    text = b"".join(e.data for e in recording.items() if isinstance(e, Heard)).decode("latin-1")
    factor = air.text(f"B 1001 {PIN}", 1, coding=coding).data.hex().upper()[-8:]
    assert factor not in text
    said = air.text("B 1001 0000", 1, coding=coding).data.hex().upper()
    assert said[-12:] in text, "its form is there"
    made = await replay.play(replay.read([path], None), load(config))
    assert made.counts['frames_received_total{link="tetra-0",type="book_on"}'] == 1
    assert made.counts['frames_received_total{link="tetra-0",type="check"}'] == 1
    assert made.events["unit.emergency"] == 1
    assert made.events["check.done"] == 1
