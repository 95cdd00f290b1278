"""A recording, played into an instance that is thrown away: judged as then."""

from __future__ import annotations

import asyncio
import fcntl
import io
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import serial

from adapters.recordings import About, End, Heard, Key, LinkAbout
from adapters.recordings.container import Item, Writing
from gateway import cli, replay
from gateway.replay import Made, ReplayRefused
from gateway.settings import BrokerSection, SerialSection, TetraSection
from tests.gateway.test_settings import Folder

BEGUN_MS = 1_700_000_000_000
"""2023-11-14T22:13:20Z: long ago, and judged as then."""
LINES = (
    LinkAbout(
        "line",
        "serial",
        "line_terminal",
        msgspec.to_builtins(SerialSection(name="line", port="/dev/none", terminal="5001001")),
    ),
    LinkAbout("mqtt", "mqtt", "terminal_json", msgspec.to_builtins(BrokerSection(name="mqtt"))),
    LinkAbout(
        "tetra", "tetra", "tetra", msgspec.to_builtins(TetraSection(name="tetra", port="/x"))
    ),
)
LINE, MQTT, TETRA = 0, 1, 2


def at(seconds: float, link: int, data: bytes, channel: str = "") -> Heard:
    return Heard(BEGUN_MS + round(seconds * 1000), round(seconds * 1e6) + 7, link, channel, data)


SAID: tuple[Item, ...] = (
    at(0, LINE, b"", "opened"),
    at(1, LINE, b"$GPRMC,2213"),
    at(1.1, LINE, b"20.00,A,5234.3500,N,00014.5860,W,2.40,090.0,141123,,,A*7F\r\n"),
    at(2, LINE, b"$GPRMC,221321.00,A,5234.3500,N,00014.5860,W,2.40,090.0,141123,,,A*00\r\n"),
    at(3, LINE, b"V TE99STV R1\r\nV ER99TMT R1\r\n"),
    at(4, MQTT, b'{"code": 0}', ":radio/5001002/up/status"),
    at(5, MQTT, b"V TE99ABC R1", "r:radio/5001002/up/text"),
    at(
        6, MQTT, b'{"lat": 52.5, "lon": -0.2, "t": "2023-11-14T22:13:27Z"}', ":radio/5001002/up/fix"
    ),
    at(30, LINE, b"half a li"),
    at(31, LINE, b"", "opened"),
    at(32, LINE, b"#S 4\r\n"),
)


def written(path: Path, items: Sequence[Item] = SAID, key: Key | None = None) -> Path:
    file = Writing(path, key, begun_ms=BEGUN_MS)
    file.write([About("gw1", "0", "abc", 1, LINES)])
    file.write(list(items))
    file.write([End(BEGUN_MS)])
    file.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    records = Path(__file__).resolve().parents[2] / "config" / "pnc"
    made.write(f"[gateway]\nstate_dir = 'var'\n[pnc]\nrecords = '{records}'\n")
    return made


def played(folder: Folder, file: Path, **options: Any) -> Made:
    found = replay.read([file], None)
    return asyncio.run(replay.play(found, replay.allowed(folder.main), **options))


def test_what_was_heard_is_judged_as_it_was_then(folder: Folder, tmp_path: Path) -> None:
    """Fixes of long ago are live, deadlines run on the recording's clock, a retained question is
    refused, half a line from before a hang-up is nobody's."""
    made = played(folder, written(tmp_path / "r"))
    decided = {name: n for name, n in made.counts.items() if not name.startswith("queue")}
    assert decided == {
        'frames_received_total{link="line",type="fix"}': 1,
        'frames_received_total{link="line",type="check"}': 2,
        'frames_received_total{link="line",type="status"}': 1,
        'frames_received_total{link="mqtt",type="fix"}': 1,
        'frames_received_total{link="mqtt",type="status"}': 1,
        'frames_rejected_total{link="line",reason="crc"}': 1,
        'frames_rejected_total{link="mqtt",reason="retained"}': 1,
        'fixes_received_total{kind="gnss"}': 2,
        'emergencies_total{stage="received"}': 1,
        'emergencies_total{stage="relayed"}': 1,
        'checks_received_total{agency="police",area="Eastern",kind="vehicle"}': 2,
        **{name: n for name, n in decided.items() if name.startswith("checks_completed")},
    }
    done = [
        (t - BEGUN_MS, said.partition(" ")[2])
        for t, tag, said in made.timeline
        if tag == "check.done"
    ]
    assert done == [
        (3000, "kind=vehicle outcome=answered"),
        (18000, "kind=vehicle outcome=expired"),
    ]
    assert made.events["unit.fix"] == 2
    assert not made.cut
    assert sum(sum(sent.values()) for sent in made.sent.values()) > 3


def test_a_radio_with_many_terminals_behind_it(folder: Folder, tmp_path: Path) -> None:
    """Who called is what the network said; nothing is said to a radio that is not there."""
    digits = b"\x82\x04\x01\x01V TE99STV R1".hex().upper().encode()
    sds = b"+CTSDSR: 12,%s,0,5000001,0,%d\r\n%s\r\n"
    said = (
        at(0, TETRA, b"", "opened"),
        at(1, TETRA, b"OK\r\n" + sds % (b"5001003", 4 * len(digits), digits[:10])),
        at(1.2, TETRA, sds % (b"5001003", 4 * len(digits), digits)),
        at(2, TETRA, b"+CTSDSR: 13,5001004,0,5000001,0,16\r\n00"),
        at(2.1, TETRA, b"00\r\n"),
        at(3, TETRA, sds % (b"5999999", 4 * len(digits), digits)),
    )
    made = played(folder, written(tmp_path / "r", said))
    assert made.counts['frames_received_total{link="tetra",type="check"}'] == 1
    assert made.counts['frames_received_total{link="tetra",type="status"}'] == 1
    assert made.counts['frames_rejected_total{link="tetra",reason="unknown_terminal"}'] == 1
    assert made.counts['frames_rejected_total{link="tetra",reason="length"}'] >= 1
    assert made.events["unit.emergency"] == 1
    assert made.events["check.done"] == 1
    assert made.sent["tetra"]["result"] >= 1


def test_the_pace_changes_nothing(folder: Folder, tmp_path: Path) -> None:
    file = written(tmp_path / "r")
    first, second = played(folder, file), played(folder, file, speed=500.0)
    assert first.counts == second.counts
    assert first.timeline == second.timeline


def test_one_link_alone(folder: Folder, tmp_path: Path) -> None:
    made = played(folder, written(tmp_path / "r"), links_only="mqtt")
    assert made.heard == 3
    assert not any('link="line"' in name for name in made.counts)


def test_a_recording_whose_end_is_missing_is_played_to_there(
    folder: Folder, tmp_path: Path
) -> None:
    file = written(tmp_path / "r")
    file.write_bytes(file.read_bytes()[:-1])
    made = played(folder, file)
    assert made.cut
    assert made.heard == len(SAID)
    out = io.StringIO()
    replay.say(replay.read([file], None), made, out, events=True)
    assert "its end is missing" in out.getvalue()
    for told in ("TE99", "5001001", "52.5", "E-1"):
        assert told not in out.getvalue(), "a command's output names nobody"


def test_it_opens_nothing_and_leaves_nothing(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    file = written(tmp_path / "r")
    found, config = replay.read([file], None), replay.allowed(folder.main)
    monkeypatch.setattr(serial, "Serial", opened)
    for name in ("bind", "connect", "connect_ex", "listen"):
        monkeypatch.setattr(socket.socket, name, opened)
    before = sorted(tmp_path.rglob("*"))
    made = asyncio.run(replay.play(found, config))
    assert made.heard == len(SAID)
    assert sorted(tmp_path.rglob("*")) == before


def test_it_asks_no_other_pnc_and_writes_no_other_ledger(folder: Folder, tmp_path: Path) -> None:
    config = replay.allowed(folder.main)
    section = config.settings
    live = msgspec.structs.replace(
        config,
        settings=msgspec.structs.replace(
            section,
            pnc=msgspec.structs.replace(section.pnc, adapter="http", url="http://127.0.0.1:9"),
            register=msgspec.structs.replace(section.register, adapter="http", url="http://x"),
            ledger=msgspec.structs.replace(section.ledger, url="postgresql+psycopg://nowhere/x"),
            record=msgspec.structs.replace(section.record, links=("line",), by="a", why="b"),
            mqtt=(BrokerSection(name="other"),),
        ),
    )
    about = About("gw1", "0", "abc", 1, LINES)
    made = replay.throw_away(live, about).settings
    assert (made.pnc.adapter, made.register.adapter, made.ledger.url) == ("mock", "mock", "")
    assert made.record.links == ()
    assert not made.history.enabled
    assert [each.name for each in (*made.serial, *made.mqtt)] == ["line", "mqtt"]


def test_production_takes_no_replay(folder: Folder, tmp_path: Path) -> None:
    folder.write(folder.main.read_text().replace("[gateway]", "[gateway]\nprofile = 'production'"))
    text = (folder.path / "people.toml").read_text()
    folder.write(text[: text.index("[[standing]]")], "people.toml")
    with folder.main.open("a") as file:
        file.write("[auth]\nallow_local_in_production = true\n")
        file.write("[audit]\nanchors = [{ kind = 'syslog', address = 'udp://127.0.0.1:514' }]\n")
    with pytest.raises(ReplayRefused, match="profile production"):
        replay.allowed(folder.main)


@pytest.mark.parametrize(
    ("kind", "section", "told"),
    [
        ("pigeons", {}, "this program has no links of kind pigeons"),
        ("serial", {"name": "a", "port": "/x", "wings": 2}, "its section does not fit"),
    ],
)
def test_a_link_of_another_program(
    folder: Folder, kind: str, section: dict[str, object], told: str
) -> None:
    about = About("gw1", "0", "abc", 1, (LinkAbout("a", kind, "x", section),))
    with pytest.raises(ReplayRefused, match=told):
        replay.throw_away(replay.allowed(folder.main), about)


def test_a_live_instance_takes_no_replay(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose ledger a process holds; when it has ended, its configuration is good again."""
    file = written(tmp_path / "r")
    words = ["replay", str(file), "--config", str(folder.main)]
    (folder.path / "var").mkdir()
    with (folder.path / "var" / "ledger.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(words) == 5
        assert "a live instance takes no replay" in capsys.readouterr().err
    assert cli.main(words) == 0
    assert "heard      11 times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: b"something else", "not a recording"),
        (lambda data: data[:40] + b"\0" + data[41:], "header"),
        (lambda data: data[:-40] + b"\0" + data[-39:], "it was changed"),
    ],
)
def test_what_cannot_be_read_is_said(
    folder: Folder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[bytes], bytes],
    told: str,
) -> None:
    file = written(tmp_path / "r")
    file.write_bytes(change(file.read_bytes()))
    assert cli.main(["replay", str(file), "--config", str(folder.main)]) == 1
    assert told in capsys.readouterr().err


def test_a_clock_that_is_played_moves_with_what_was_heard() -> None:
    async def rest() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def story() -> None:
        clock, woken = replay.PlayedClock(1000), []

        async def sleeper(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic_s(), clock.wall_ms()))

        tasks = [asyncio.ensure_future(sleeper(each)) for each in (2.0, 1.0, 5.0)]
        await clock.advance(3.0, rest)
        assert woken == [(1.0, 1.0, 2000), (2.0, 2.0, 3000)]
        clock.set_wall(99)
        await clock.advance(6.0, rest)
        assert woken[-1] == (5.0, 5.0, 2099)
        assert clock.monotonic_s() == 6.0
        await asyncio.gather(*tasks)

    asyncio.run(story())
