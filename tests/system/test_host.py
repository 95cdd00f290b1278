"""The host under the real daemon: H02 to H15 of the failure modes, as an officer meets them.

Each ends in the join of the four records. What needs a broker, a long soak or systemd stands
elsewhere: docs/failure-modes.md says where.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

from tests.services import require, require_faketime
from tests.system.daemon import ROOT, Daemon, until
from tests.system.ledgers import audit, chain_faults
from tests.system.post import WITHIN_S, Post, limit, post, send, strace

# --------------------------------------------------------------------------- signals


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_stop_under_load_hands_over(tmp_path: Path) -> None:
    """H02: SIGTERM with questions at the PNC: exit 0; what is not finished goes on after the
    start, and everybody has their one answer."""
    async with post(tmp_path, checks={"deadline_s": 30.0, "per_terminal_open": 64}) as here:
        marks = ["ER99SLW", "TE99AAB", "TE99STV", "TE99ABC"] * 3
        numbers = [here.officer.ask(f"V {mark} R{n % 6 + 1}") for n, mark in enumerate(marks)]
        await here.officer.until(lambda: here.officer.receipt(numbers[0]), WITHIN_S)
        assert await here.daemon.stop() == 0
        await here.daemon.start()
        for number in numbers:
            await here.officer.until(lambda n=number: here.officer.parts(n), 30)
        await here.settled()
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_stopped_for_longer_than_a_deadline(tmp_path: Path) -> None:
    """H03: SIGSTOP for 30 s, twice the deadline that is shipped, then CONT. What expired meanwhile
    is told so and is not asked again; what was asked meanwhile is taken; the console's stream goes
    on without a hole; the log says so."""
    async with post(tmp_path, checks={"deadline_s": 15.0}) as here:
        here.pnc.fault = "hang"
        number = here.officer.ask("V TE99STV R1")
        await here.officer.until(lambda: here.officer.receipt(number), WITHIN_S)
        await until(lambda: here.pnc.queries, WITHIN_S)
        send(here.daemon, signal.SIGSTOP)
        await asyncio.sleep(30.0)  # the fault itself
        later = here.officer.ask("V TE99ABC R1")
        here.pnc.fault = None
        send(here.daemon, signal.SIGCONT)
        parts = await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        assert "NO ANSWER" in parts[0]["text"]
        await here.officer.until(lambda: here.officer.parts(later), WITHIN_S)
        blocked = await here.logged("loop.blocked")
        assert blocked["lag_ms"] > 25_000
        assert len([q for q in here.pnc.queries if "TE99STV" in str(q.key_text)]) == 1
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_blocked_loop_is_seen(tmp_path: Path) -> None:
    """H04: one system call of the loop takes 5 s. In the log, and in the histogram; the question
    that came meanwhile is answered. (That systemd would have killed it: the tests of the unit.)"""
    async with post(tmp_path, checks={"deadline_s": 30.0}) as here:
        async with strace(here.daemon.pid, "epoll_wait:delay_exit=5000000:when=1", threads=False):
            number = here.officer.ask("V TE99ABC R1")
            blocked = await here.logged("loop.blocked")
        assert blocked["lag_ms"] > 3000
        await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        _, metrics = await here.daemon.get("/metrics")
        found = re.findall(rb'loop_lag_seconds_bucket\{le="([0-9.]+)"\} (\S+)', metrics)
        in_two_s = max(float(number) for least, number in found if float(least) < 2.1)
        assert await here.metric("event_loop_lag_seconds_count") > in_two_s
        assert here.verdict() == []


# --------------------------------------------------------------------------- limits


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_without_descriptors_officers_are_served_and_the_log_stays_small(
    tmp_path: Path,
) -> None:
    """H05: no descriptor is left and a hundred clients knock. Line and ledger have theirs; the log
    has at most ten lines a second of one cause; when there are some again, all is as before."""
    async with post(tmp_path) as here:
        await here.answered()
        held = len(os.listdir(f"/proc/{here.daemon.pid}/fd"))
        limit(here.daemon.pid, f"--nofile={held + 2}:4096")
        clients = []
        try:
            for _ in range(100):
                client = socket.socket()
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(("127.0.0.1", here.daemon.port))
                clients.append(client)
            await here.logged("library", logger="asyncio")
            # The PNC may have lost its connection: NO ANSWER is an answer, silence is none.
            number = here.officer.ask("V TE99ABC R1")
            await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        finally:
            for client in clients:
                client.close()
        limit(here.daemon.pid, "--nofile=1024:4096")
        await here.daemon.ready()
        await here.answered("V TE99AAA R1")
        assert here.daemon.process is not None
        assert here.daemon.process.returncode is None
        by_second: dict[tuple[str, str], int] = {}
        for line in here.daemon.journal():
            cause = (line["t"][:19], str(line.get("logger", line["event"])))
            by_second[cause] = by_second.get(cause, 0) + 1
        # A window of the limit may begin anywhere in a second: two of them touch each.
        assert max(by_second.values()) <= 22
        assert here.daemon.errors.read_text("utf-8") == ""
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_flood_stays_within_its_memory(tmp_path: Path) -> None:
    """H06: 30,000 lines at a line, 300 questions among them, and streams that nobody reads.
    Memory stays below a cap that is little more than it has at rest, and officers are served."""
    async with post(tmp_path, checks={"deadline_s": 30.0}) as here:
        await here.answered()
        before = resident(here.daemon.pid)
        limit(here.daemon.pid, f"--as={address_space(here.daemon.pid) + 128 * 1024 * 1024}")
        deaf = []
        cookie = (await here.daemon.log_in())["Cookie"]
        asked = f"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", here.daemon.port))
            client.sendall(asked.encode())
            deaf.append(client)
        bad = f"$GPRMC,{'1' * 60}*00"
        lines = [f"V TE99{n // 100:03}X R1" if n % 100 == 0 else bad for n in range(30_000)]
        flood = memoryview("".join(f"{line}\r\n" for line in lines).encode())
        try:
            async with asyncio.timeout(2 * WITHIN_S):
                while flood:
                    try:
                        flood = flood[os.write(here.officer._master, flood[:16384]) :]
                    except BlockingIOError:
                        await asyncio.sleep(0.001)
            await here.answered("V TE99AAA R1")
        finally:
            for client in deaf:
                client.close()
        grown = resident(here.daemon.pid) - before
        print(f"resident {before >> 20} MiB, {grown >> 20} MiB more after the flood")
        assert grown < 64 * 1024 * 1024
        await here.settled()
        assert here.verdict() == []


def resident(pid: int) -> int:
    """Bytes."""
    return _status(pid, "VmRSS")


def address_space(pid: int) -> int:
    return _status(pid, "VmSize")


def _status(pid: int, key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# --------------------------------------------------------------------------- clocks


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_the_wall_clock_is_set_and_no_deadline_moves(tmp_path: Path) -> None:
    """H08: an hour forth, then back, with a question at the PNC each time: it is answered as if
    nothing had been; the step is in log and metrics; the chain keeps its order."""
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    environ = {
        "LD_PRELOAD": require_faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with post(tmp_path, checks={"deadline_s": 20.0}, environ=environ) as here:
        await here.answered()
        for n, step in enumerate(("+3600", "+0")):
            number = here.officer.ask(f"V ER99SLW R{n + 1}")
            await here.officer.until(lambda m=number: here.officer.receipt(m), WITHIN_S)
            clock.write_text(f"{step}\n")
            parts = await here.officer.until(lambda m=number: here.officer.parts(m), WITHIN_S)
            assert "NO ANSWER" not in parts[0]["text"]
            await until(lambda m=n: len(here.lines("clock.step")) > m, WITHIN_S)
        steps = [round(line["step_ms"] / 1000) for line in here.lines("clock.step")]
        assert steps == [3600, -3600]
        assert await here.metric("clock_step_seconds_total") == pytest.approx(7200, abs=2)
        await here.answered("V TE99ABC R1")
        # Whether it was on record first is told by the clocks of both, which disagree here.
        assert [each for each in here.verdict() if "heard before its record" not in each] == []


# --------------------------------------------------------------------------- two of them


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_holder_that_slept_writes_nothing_more(tmp_path: Path) -> None:
    """H12: the holder is stopped, its lock file removed by somebody who wants to help, and another
    daemon started. The first, let go on, finds the higher fence and ends; nothing it took was
    receipted, and the chain is the second one's."""
    async with post(tmp_path) as here:
        await here.answered()
        send(here.daemon, signal.SIGSTOP)
        folder = tmp_path / "second"
        folder.mkdir()
        second = Daemon(folder, pnc_url=here.pnc.url)
        text = second.config.read_text("utf-8").replace(str(second.state), str(here.daemon.state))
        second.config.write_text(text, "utf-8")
        try:
            await second.start(wait=False)
            assert second.process is not None
            async with asyncio.timeout(WITHIN_S):
                assert await second.process.wait() == 1, "the lock of a stopped holder holds"
            (here.daemon.state / "ledger.db.lock").unlink()
            await second.start()
            known = {heard.raw for heard in here.officer.heard}
            number = here.officer.ask("V TE99STV R1")
            send(here.daemon, signal.SIGCONT)
            assert await here.ended() == 1
            assert here.lines("ledger.fatal")
            assert here.officer.receipt(number) is None
            assert {heard.raw for heard in here.officer.heard} == known, "more than a repeat"
            assert (await second.get("/readyz"))[0] == 200
            assert await second.stop() == 0
        finally:
            await second.close()
        await here.daemon.start()
        await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        await here.settled()
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_bad_row_and_a_storm_of_restarts(tmp_path: Path) -> None:
    """H13: a row that cannot be read is put away, on record as a failure, and costs nobody else;
    six kills at any moment of the start leave a ledger that starts."""
    async with post(tmp_path, checks={"deadline_s": 60.0}) as here:
        here.pnc.fault = "hang"
        number = here.officer.ask("V TE99STV R1")
        await here.officer.until(lambda: here.officer.receipt(number), WITHIN_S)
        other = here.officer.ask("V TE99ABC R1")
        receipt = await here.officer.until(lambda: here.officer.receipt(other), WITHIN_S)
        await here.daemon.kill()
        with contextlib.closing(sqlite3.connect(here.daemon.state / "ledger.db")) as db:
            query = "UPDATE checks SET state = X'FF' WHERE short = ?"
            assert db.execute(query, (receipt["short"],)).rowcount == 1
            db.commit()
        here.pnc.fault = None
        for n in range(6):
            await here.daemon.start(wait=False)
            await asyncio.sleep(0.3 * n)  # where the kill lands
            await here.daemon.kill()
        await here.daemon.start()
        assert len(here.lines("check.unreadable")) == 1
        await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        await here.settled()
        ends = [leaf for leaf in audit(here.daemon.state) if leaf["event"] == "answered"]
        assert sorted(leaf["outcome"] for leaf in ends) == ["answered", "failed"]
        assert here.verdict() == []


# --------------------------------------------------------------------------- configuration


FILES = ("fleet", "people", "areas", "policy", "warnings")
MUTANTS = (
    ("instance", '"gw 1"'),
    ("timezone", '"Europe/Peterborough"'),
    ("state_dir", "5"),
    ("warnings", "[]"),
    ("baud", "1"),
    ("mode", '"ldap"'),
    ("deadline_s", "0.0"),
    ("deadline_s", '"15"'),
    ("concurrency", "0"),
    ("queue", "-1"),
    ("retries", "3"),
    ("stale_s", "1e9"),
    ("resend_s", "-1.0"),
    ("adapter", '"mokc"'),
    ("max_reply", "1.5"),
    ("stall_s", "0.0"),
    ("group_rows", '"many"'),
    ("keep_days", "true"),
    ("host", '"0.0.0.0"'),
    ("port", '"8080"'),
    ("name", '"Serial East"'),
    ("terminal", '"9999999"'),
    ("codec", '"morse"'),
    ("parity", '"X"'),
    ("bits", "9"),
    ("version", '"4"'),
    ("prefix", '"radio/#"'),
    ("keepalive_s", "0"),
    ("max_payload", "1"),
    ("silent_s", "0.0"),
)
"""The first key of this name in the sample, and a value that it cannot have."""


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_thirty_faulty_reloads_change_nothing(tmp_path: Path) -> None:
    """H10: each mutant of the sample is refused with file, key and line; so is a file that is no
    TOML, or is gone; the old one stays live and the daemon lives on."""
    assert len(MUTANTS) >= 30
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    async with post(tmp_path) as here:
        sample = (config / "gateway.toml").read_text("utf-8")
        sound = here.daemon.config.read_text("utf-8")
        sample = sample.replace('"alarms.toml"', f'"{config / "alarms.toml"}"')
        # Of the sample all but what makes this daemon the one that it is.
        files = {name: config / f"{name}.toml" for name in FILES}
        for name, path in files.items():
            sample = re.sub(rf"^{name} = .*$", f'{name} = "{path}"', sample, flags=re.MULTILINE)
        for key, value in MUTANTS:
            text, number = re.subn(
                rf"^{key} = .*$", f"{key} = {value}", sample, count=1, flags=re.MULTILINE
            )
            assert number == 1, key
            line = next(
                n for n, each in enumerate(text.splitlines(), 1) if each == f"{key} = {value}"
            )
            finding = await refused(here, text)
            assert "gateway.toml" in finding, (key, finding)
            assert key in finding, (key, finding)
            assert f"line {line}" in finding, (key, finding)
        for text in ("[gateway", "\0", "[http]\nport = 1\n[http]\n", ""):
            if text:
                assert "gateway.toml" in await refused(here, text)
        here.daemon.config.unlink()
        assert "gateway.toml" in await refused(here, None)
        assert not here.lines("config.loaded")
        here.daemon.config.write_text(sound, "utf-8")
        await here.answered("V TE99AAA R1")
        assert await here.daemon.stop() == 0
        changes = [each for each in audit(here.daemon.state) if each["event"] == "alteration"]
        assert len(changes) == 1, "the policy that the first start took, and nothing else"
        assert here.verdict() == []


async def refused(here: Post, text: str | None) -> str:
    """Reload with this file; what the journal says of it."""
    before = len(here.lines("config.refused"))
    if text is not None:
        here.daemon.config.write_text(text, "utf-8")
    send(here.daemon, signal.SIGHUP)
    await until(lambda: len(here.lines("config.refused")) > before, WITHIN_S)
    return " ".join(line["finding"] for line in here.lines("config.refused")[before:])


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_reload_that_takes_a_terminal_away_is_obeyed_at_once(tmp_path: Path) -> None:
    """H11: its answer is on the way when its terminal is struck off the list: never delivered, and
    it may ask nothing more; its row leaves the page."""
    async with post(tmp_path, checks={"deadline_s": 30.0}) as here:
        number = here.officer.ask("V ER99SLW R1")
        await here.officer.until(lambda: here.officer.receipt(number), WITHIN_S)
        fleet = tmp_path / "fleet.toml"
        tables = fleet.read_text("utf-8").split("[[terminal")
        left = [each for each in tables if 'issi = "5001001"' not in each]
        assert len(left) == len(tables) - 1
        fleet.write_text("[[terminal".join(left), "utf-8")
        config = here.daemon.config.read_text("utf-8")
        here.daemon.config.write_text(config[: config.index("[[serial]]")], "utf-8")
        send(here.daemon, signal.SIGHUP)
        await here.logged("config.loaded")
        heard = len(here.officer.heard)
        await here.settled()
        for n in range(3):
            here.officer.say(f"V TE99ABC R{n + 1}")
        rows = (await here.daemon.snapshot())["units"]["rows"]
        async with asyncio.timeout(WITHIN_S):
            while "E-101" in {row[1] for row in rows}:  # a snapshot may be 0.2 s old
                await asyncio.sleep(0.05)
                rows = (await here.daemon.snapshot())["units"]["rows"]
        await asyncio.sleep(1.5)  # whatever would still come must have its chance to
        assert [h.raw for h in here.officer.heard[heard:] if h.channel == "result"] == []
        assert len([leaf for leaf in audit(here.daemon.state) if leaf["event"] == "opened"]) == 1
        assert chain_faults(audit(here.daemon.state)) == []


# --------------------------------------------------------------------------- surroundings


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_a_credential_that_is_missing_is_named_and_nobody_comes_without(
    tmp_path: Path,
) -> None:
    """H14: a broker's password is not there: exit 78, said with key and line. The PNC's token is
    not: it is not asked, and the officer reads NO ANSWER."""
    async with post(tmp_path) as here:
        assert await here.daemon.stop() == 0
        sound = here.daemon.config.read_text("utf-8")
        broker = '[[mqtt]]\nname = "air"\nusername = "gw"\npassword_file = "no-password"\n'
        here.daemon.config.write_text(sound + broker, "utf-8")
        await here.daemon.start(wait=False)
        assert await here.ended() == 78
        said = here.daemon.errors.read_text("utf-8")
        line = len((sound + broker).splitlines())
        assert f"mqtt air: password_file: no such file (line {line})" in said

        text = sound.replace("[pnc]\n", '[pnc]\ntoken_file = "no-token"\n')
        assert text != sound
        here.daemon.config.write_text(text, "utf-8")
        await here.daemon.start()
        number = here.officer.ask("V TE99STV R1")
        parts = await here.officer.until(lambda: here.officer.parts(number), WITHIN_S)
        assert "NO ANSWER" in parts[0]["text"]
        assert not here.pnc.queries
        assert here.verdict() == []


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("world", ["nothing", "read-only", "C"])
async def test_it_needs_nothing_of_its_surroundings(tmp_path: Path, world: str) -> None:
    """H15: no environment at all; a root that cannot be written; no locale, no time zone."""
    (tmp_path / "var").mkdir(mode=0o700)
    rooms = (
        f"mount --rbind {tmp_path} {tmp_path}; mount --rbind /dev /dev; mount --rbind /proc /proc"
    )
    script = f'{rooms}; mount -o remount,bind,ro /; cd /; ! touch /x 2>/dev/null; exec "$@"'
    wrapper = {
        "nothing": ["env", "-i"],
        "read-only": [require("unshare"), "-rm", "sh", "-ec", script, "sh"],
        "C": ["env", "-u", "TZ", "LC_ALL=C", "LANG=C", "HOME=/nonexistent"],
    }[world]
    async with post(tmp_path, wrapper=wrapper) as here:
        await here.answered()
        assert await here.daemon.stop() == 0
        assert here.daemon.errors.read_text("utf-8") == ""
        assert here.verdict() == []
