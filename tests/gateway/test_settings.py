"""The configuration: what is shipped loads, what is wrong is named by file and key, all at once."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from gateway import originator, rendering
from gateway.errors import ConfigError
from gateway.messages import Outcome
from gateway.policy import View
from gateway.results import Shown
from gateway.rulebook import Challenges, Coach, Reason, check_policy
from gateway.settings import load
from tests.gateway.strategies import AREAS, CONFIG, FLEET, PEOPLE, POLICY, WARNINGS, askers

FILES = ("alarms.toml", "fleet.toml", "people.toml", "areas.toml", "policy.toml", "warnings.toml")


class Folder:
    """A configuration in a folder of its own: the shipped data files and a small gateway.toml."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in FILES:
            shutil.copy(CONFIG / name, path / name)
        self.main = path / "gateway.toml"
        self.main.write_text("")

    def write(self, text: str, name: str = "gateway.toml") -> None:
        (self.path / name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        """Replace the first occurrence; it must be there, or the test proves nothing."""
        text = (self.path / name).read_text()
        assert old in text
        self.write(text.replace(old, new, 1), name)

    def findings(self) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(self.main)
        return caught.value.findings


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_its_digest_is_that_of_its_files(folder: Folder) -> None:
    """As anybody can make it: `cat gateway.toml fleet.toml ... | sha256sum`; any change shows."""
    names = ("gateway.toml", *FILES[1:], FILES[0])
    whole = b"".join((folder.path / name).read_bytes() for name in names)
    before = load(folder.main).digest
    assert before == hashlib.sha256(whole).hexdigest()[:16]
    for name in names:
        folder.write((folder.path / name).read_text() + "# seen\n", name)
        after = load(folder.main).digest
        assert after != before
        before = after


def test_the_shipped_data_files_load(folder: Folder) -> None:
    """Fleet, policy and words of the sample stand every check, with every default."""
    config = load(folder.main)
    assert len(config.fleet.terminals) == len(config.people.standing) == 15
    assert config.settings.tracking.staleness_s["vehicle"] == 15.0
    assert config.state_dir == folder.path / "var"
    assert config.settings.http.host == "127.0.0.1"


def test_the_sample_fleet_is_synthetic() -> None:
    """Only TESTER and SYNTHA stand in the sample, and everybody can be named to the PNC."""
    assert {each.surname for each in PEOPLE.officers} == {"TESTER", "SYNTHA"}
    assert {each.agency for each in PEOPLE.officers} == set(FLEET.agencies)
    assert {each.agency for each in FLEET.terminals} == set(FLEET.agencies)
    assert {each.area for each in FLEET.terminals} == set(AREAS.areas)
    assert {each.device_class for each in FLEET.terminals} == set(FLEET.device_classes)
    assert len(askers()) == len(FLEET.terminals)
    for each in askers():
        assert len(originator.line(each, reason="1")) <= POLICY.originator_max


def test_every_key_of_the_data_files_is_explained() -> None:
    """Each key that a data file uses is named in a comment of that file."""
    for name in FILES:
        text = (CONFIG / name).read_text()
        comments = "\n".join(re.findall(r"#.*", text))
        body = re.sub(r"#.*", "", text)
        keys = set(re.findall(r"^([a-z_]+) = ", body, re.MULTILINE))
        # Explained by the line above them.
        keys -= {"version", "owner", "areas", "agencies", "committees"}
        unexplained = {key for key in keys if not re.search(rf"\b{key}\b", comments)}
        assert unexplained <= {"on_behalf_agencies", "originator_max"}, name


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[gatewayy]", "gateway.toml: gatewayy: unknown; did you mean gateway? (line 1)"),
        (
            "[gsm]",
            "gateway.toml: gsm: unknown; known are alarms, audit, auth, book, checks, cot",
        ),
        (
            "[gateway]\ninstanse = 'a'",
            "gateway.toml: gateway.instanse: unknown; did you mean instance? (line 2)",
        ),
        (
            "[[mqtt]]\nname = 'a'\n[[mqtt]]\nname = 'b'\nprot = 1",
            "gateway.toml: mqtt[1].prot: unknown; did you mean port? (line 5)",
        ),
        (
            "[[serial]]\nname = 'a'\nterminal = '5001001'",
            "gateway.toml: serial[0].port: missing (line 1)",
        ),
        ("[gateway]\ninstance = 'A b'", "gateway.toml: gateway.instance"),
        ("[gateway]\ntimezone = 'Europe/Londn'", "gateway.toml: gateway.timezone: no such zone"),
        ("[gateway]\ntimezone = '../etc'", "gateway.toml: gateway.timezone: no such zone"),
        ("[gateway]\ntimezone = ''", "gateway.toml: gateway.timezone: no such zone"),
        ("[http]\nhost = '0.0.0.0'", "gateway.toml: http.host: other than loopback"),
        (
            "[gateway]\nprofile = 'production'",
            "gateway.toml: auth.mode: oidc in profile production, or allow_local_in_production",
        ),
        ("[http]\ncert_file = 'x.pem'", "gateway.toml: http.cert_file: needs key_file"),
        ("[http]\nkey_file = 'x.key'", "gateway.toml: http.key_file: needs cert_file"),
        ("[http]\nmin_tls = '1.1'", "gateway.toml: http.min_tls: 1.3 or 1.2"),
        ("[http]\nmetrics_from = ['me']", "gateway.toml: http.metrics_from[0]: a network"),
        ("[http]\nmetrics_token_file = 'x'", "gateway.toml: http.metrics_token_file: no such"),
        ("[http]\nper_session_per_s = 0.0", "gateway.toml: http.per_session_per_s: between"),
        ("[auth]\nmode = 'none'", "gateway.toml: auth.mode: local or oidc"),
        ("[auth]\nmode = 'oidc'", "gateway.toml: auth.client_id: needed by mode oidc"),
        ("[auth]\nmode = 'oidc'", "gateway.toml: auth.redirect_url: https://"),
        ("[auth]\nmode = 'oidc'\nissuer = 'http://192.0.2.1'", "gateway.toml: auth.issuer: https"),
        ("[auth]\nroles = { x = 'king' }", "gateway.toml: auth.roles.x: one of operator, super"),
        ("[auth]\nidle_s = 0.0", "gateway.toml: auth.idle_s: between 1 and 3600"),
        ("[auth]\nabsolute_s = 1e6", "gateway.toml: auth.absolute_s: between"),
        ("[auth]\nsessions_each = 0", "gateway.toml: auth.sessions_each: between"),
        ("[auth]\nclient_secret_file = 'x'", "gateway.toml: auth.client_secret_file: no such"),
        ("[http]\nport = 'x'", "gateway.toml: http.port: Expected int, got str (line 2)"),
        ("http = 3", "gateway.toml: http: Expected object, got int (line 1)"),
        ("[checks]\ndeadline_s = 0.0", "gateway.toml: checks.deadline_s"),
        ("[checks]\nretries = 3", "gateway.toml: checks.retries"),
        ("[checks]\nqueue = 0", "gateway.toml: checks.queue"),
        ("[ledger]\nkeep_days = 1", "gateway.toml: ledger.keep_days: between 2 and 3650"),
        ("[history]\nkeep_days = 0", "gateway.toml: history.keep_days: between 1 and 3650"),
        ("[limits]\nper_s = 0.0", "gateway.toml: limits.per_s: between 0.1"),
        ("[limits]\nburst = 0", "gateway.toml: limits.burst: between 1"),
        ("[limits]\nfixes_burst = 0", "gateway.toml: limits.fixes_burst"),
        ("[limits]\nper_s = 50.0\nall_per_s = 20.0", "limits.all_per_s: between 50.0"),
        ("[limits]\nall_fixes_burst = 3", "limits.all_fixes_burst: between 20"),
        ("[checks.deadlines_s]\nboat = 3.0", "gateway.toml: checks.deadlines_s.boat"),
        ("[pnc]\nadapter = 'http'", "gateway.toml: pnc.url"),
        ("[register]\nadapter = 'http'", "gateway.toml: register.url: needed"),
        (
            "[register]\nadapter = 'http'\nurl = 'http://192.0.2.1/'",
            "set register.allow_remote = true",
        ),
        (
            "[pnc]\nadapter = 'http'\nurl = 'http://192.0.2.1/'",
            "gateway.toml: pnc.url: not on loopback",
        ),
        (
            "[[serial]]\nname = 'a'\nport = '/dev/x'\nterminal = '42'",
            "gateway.toml: serial a: terminal: not in the fleet",
        ),
        (
            "[[serial]]\nname = 'a'\nport = '/dev/x'\nterminal = '5001001'\nparity = 'Q'",
            "gateway.toml: serial a: parity",
        ),
        *(
            (
                "[[serial]]\nname = 'a'\nterminal = '5001001'\n"
                + ("" if key == "port" else "port = '/dev/x'\n")
                + f"{key} = {value}",
                f"gateway.toml: serial a: {key}: ",
            )
            for key, value in (
                ("port", "'ttyUSB0'"),
                ("port", "'socket://host'"),
                ("port", "'socket://127.0.0.1:0'"),
                ("port", "'socket://127.0.0.1:99999'"),
                ("port", "'spy:///dev/x'"),
                ("parity", "''"),
                ("parity", "'NE'"),
                ("stop", 3),
                ("baud", 0),
                ("bits", 9),
                ("write_buffer", 100),
                ("write_deadline_s", 0),
                ("silent_s", 0),
                ("reference_date", "'06/04/2019'"),
                ("reference_date", "'20190406'"),
            )
        ),
        (
            "[[mqtt]]\nname = 'a'\nversion = '4'",
            "gateway.toml: mqtt a: version",
        ),
        (
            "[[mqtt]]\nname = 'a'\nca_file = 'nowhere.pem'",
            "gateway.toml: mqtt a: ca_file: no such file",
        ),
        (
            "[[mqtt]]\nname = 'a'\n[[mqtt]]\nname = 'a'",
            "gateway.toml: link name a: used twice",
        ),
        ("[[mqtt]]\nname = 'a'\nca_file = 'x'", "gateway.toml: mqtt a: ca_file: needs tls"),
        ("[[mqtt]]\nname = 'a'\ncert_file = 'x'", "gateway.toml: mqtt a: cert_file: needs tls"),
        ("[[mqtt]]\nname = 'a'\ntls = true\nkey_file = 'x'", "mqtt a: key_file: needs cert_file"),
        (
            "[[mqtt]]\nname = 'a'\nstatus_password_file = 'x'",
            "mqtt a: status_password_file: needs status_username",
        ),
        ("[[mqtt]]\nname = 'a'\nprefix = 'radio/#'", "gateway.toml: mqtt a: prefix"),
        ("[[mqtt]]\nname = 'a'\nclient_id = ''", "gateway.toml: mqtt a: client_id"),
        ("[[mqtt]]\nname = 'a'\nkeepalive_s = 0", "gateway.toml: mqtt a: keepalive_s"),
        ("[[mqtt]]\nname = 'a'\nmax_payload = 0", "gateway.toml: mqtt a: max_payload"),
        ("[[mqtt]]\nname = 'a'\nport = 0", "gateway.toml: mqtt a: port"),
        ("[[mqtt]]\nname = 'a'\nhost = ''", "gateway.toml: mqtt a: host"),
        (
            "[[mqtt]]\nname = 'a'\n[[mqtt]]\nname = 'b'",
            "gateway.toml: mqtt: the same client_id stands twice",
        ),
        ("[record]\nlinks = ['a']", "gateway.toml: record.links: no link is called a"),
        ("[record]\nkeep_days = 40", "gateway.toml: record.keep_days: between 1 and 31"),
        ("[record]\nkey_file = 'none'", "gateway.toml: record.key_file: no such file"),
        (
            "[record]\nlinks = ['a']\nby = 'op1'\n[[mqtt]]\nname = 'a'",
            "gateway.toml: record.why: who records what officers say, and why, goes on record",
        ),
        (
            "[[gpsd]]\nname = 'a'\nterminal = '9'",
            "gpsd a: terminal: not in the fleet file (line 3)",
        ),
        ("[[gpsd]]\nname = 'a'\nhost = '10.0.0.1'", "gpsd a: host: not on loopback"),
        ("[[gpsd]]\nname = 'a'\nhost = 'a b'", "gpsd a: host: a name or an address"),
        ("[[gpsd]]\nname = 'a'\nport = 0", "gpsd a: port: between"),
        ("[[gpsd]]\nname = 'a'\nask_after_s = 0", "gpsd a: ask_after_s: between"),
        ("[[gpsd]]\nname = 'mqtt'\n[[mqtt]]\nname = 'mqtt'", "link name mqtt: used twice"),
        ("[[tetra]]\nname = 'a'\nport = 'COM3'", "tetra a: port: an absolute path"),
        ("[[tetra]]\nname = 'a'\nport = 'socket://h:0'", "tetra a: port: socket://host:port"),
        ("[[tetra]]\nname = 'a'\nport = '/x'\nmcc = '23A'", "tetra a: mcc: a figure up to 1023"),
        ("[[tetra]]\nname = 'a'\nport = '/x'\nmnc = '16384'", "tetra a: mnc: a figure up to 16383"),
        (
            "[[tetra]]\nname = 'a'\nport = '/x'\nservices = ['1,3,130; ATZ']",
            "tetra a: services: each as AT+CTSP takes it",
        ),
        (
            "[[tetra]]\nname = 'a'\nport = '/x'\nconcatenation = 'both'",
            "tetra a: concatenation: udh or sds",
        ),
        (
            "[[tetra]]\nname = 'a'\nport = '/x'\nmax_pdu_bits = 2048",
            "tetra a: max_pdu_bits: between",
        ),
        ("[[tetra]]\nname = 'a'\nport = '/x'\nkeep_alive_s = 0", "tetra a: keep_alive_s: between"),
        ("[[tetra]]\nname = 'a'\nport = '/x'\nair_s = 0", "tetra a: air_s: between"),
        ("[[tetra]]\nname = 'a'\nport = '/x'\nqueue = 1", "tetra a: queue: between"),
        (
            "[[tetra]]\nname = 'a'\nport = '/x'\n[[serial]]\nname = 'b'\nport = '/x'",
            "the same port stands in two links",
        ),
        (
            "[[osmand]]\nname = 'a'\nhost = '0.0.0.0'",
            "osmand a: token_file: needed off loopback",
        ),
        (
            "[[osmand]]\nname = 'a'\nhost = '0.0.0.0'",
            "osmand a: cert_file: needed off loopback",
        ),
        (
            "[[osmand]]\nname = 'a'\nhost = '0.0.0.0'\nallow_plain = true",
            "osmand a: token_file: needed off loopback",
        ),
        ("[[osmand]]\nname = 'a'\ntoken_file = 'none'", "osmand a: token_file: no such file"),
        ("[[osmand]]\nname = 'a'\ncert_file = 'x.pem'", "osmand a: cert_file: needs key_file"),
        ("[[osmand]]\nname = 'a'\nmin_tls = '1.1'", "osmand a: min_tls: 1.3 or 1.2"),
        ("[[osmand]]\nname = 'a'\nspeed_unit = 'mph'", "osmand a: speed_unit: kn, kmh or mps"),
        ("[[osmand]]\nname = 'a'\nmax_per_address = 0", "osmand a: max_per_address: between"),
        ("[[osmand]]\nname = 'a'\nport = 8080", "osmand.port: something else listens there"),
        ("[[owntracks]]\nname = 'a'\nprot = 1", "gateway.toml: owntracks[0].prot: unknown"),
        ("[[owntracks]]\nname = 'A'", "gateway.toml: owntracks[0].name: letters a-z"),
        ("[[owntracks]]\nname = 'a'\nversion = '4'", "owntracks a: version: 5 or 3.1.1 (line 3)"),
        ("[[owntracks]]\nname = 'a'\nprefix = 'a/b'", "gateway.toml: owntracks a: prefix"),
        ("[[owntracks]]\nname = 'a'\nsilent_s = 0", "gateway.toml: owntracks a: silent_s: between"),
        (
            "[[owntracks]]\nname = 'a'\nkeys_file = 'none'",
            "gateway.toml: owntracks a: keys_file: no such file (line 3)",
        ),
        (
            "[[owntracks]]\nname = 'a'\npassword_file = 'x'",
            "gateway.toml: owntracks a: password_file: needs username",
        ),
        (
            "[[mqtt]]\nname = 'a'\n[[owntracks]]\nname = 'a'",
            "gateway.toml: link name a: used twice",
        ),
        (
            "[[mqtt]]\nname = 'a'\n[[owntracks]]\nname = 'b'\nclient_id = 'radio-gateway'",
            "gateway.toml: mqtt: the same client_id stands twice",
        ),
        ("[gateway]\nfleet = 'none.toml'", "none.toml: cannot be read"),
        ("= broken", "gateway.toml: not TOML: Invalid statement (at line 1, column 1)"),
        ("x = " + "9" * 5000, "gateway.toml: not TOML: a value too long or too deep"),
        ("x = " + "[" * 5000, "gateway.toml: not TOML: a value too long or too deep"),
    ],
)
def test_what_is_wrong_is_named(folder: Folder, text: str, finding: str) -> None:
    """File, key and reason of each fault in the main file."""
    folder.write(text)
    assert any(finding in found for found in folder.findings())


def test_production_records_nothing_that_is_not_sealed(folder: Folder) -> None:
    """Training may; and with a key production may, too."""
    said = "links = ['a']\nby = 'op1'\nwhy = 'fault 7'\n"
    finding = "record.public_key_file: profile production records nothing that is not sealed"
    (folder.path / "a.pub").write_text("")
    for profile, key, told in (
        ("production", "", True),
        ("production", "public_key_file = 'a.pub'\n", False),
        ("training", "", False),
    ):
        folder.write(
            f"[gateway]\nprofile = '{profile}'\nfleet = 'none.toml'\n"
            f"[record]\n{said}{key}[[mqtt]]\nname = 'a'\n"
        )
        assert any(finding in each for each in folder.findings()) == told


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"),
    [
        ("fleet.toml", 'issi = "5001001"', 'issi = "500100111"', "terminals[0].issi: 1 to 8"),
        ("fleet.toml", 'issi = "5001001"', 'issi = "5001002"', "terminals[1].issi: stands twice"),
        ("fleet.toml", 'area = "Eastern"', 'area = "Western"', "terminals[0].area"),
        ("fleet.toml", 'agency = "police"', 'agency = "navy"', "terminals[0].agency"),
        ("fleet.toml", 'device_class = "handheld"', 'device_class = "x"', "device_class"),
        ("fleet.toml", 'issi = "5001001"', 'issi = "5001001"\nlink = "x"', "terminals[0].link: no"),
        *(
            ("fleet.toml", 'issi = "5001001"', f'issi = "1"\nnames.x = "{name}"', ".x: 1 to 64")
            for name in ("", "two words", "n" * 65)
        ),
        ("people.toml", 'surname = "TESTER"', 'surname = " "', "officers[0]: collar and surname"),
        ("people.toml", 'rank = "PC"', f'rank = "{"P" * 45}"', "officers[0]: rank, collar"),
        ("people.toml", 'collar = "1001"', 'collar = "1002"', "officers[1].collar: stands twice"),
        ("people.toml", 'agency = "police"', 'agency = "navy"', "officers[0].agency"),
        ("people.toml", 'rank = "PC"', 'accredited_until = "soon"', "officers[0].accredited_until"),
        ("people.toml", 'officer = "1001"', 'officer = "1"', "standing[0].officer: not the collar"),
        ("people.toml", 'terminal = "5001001"', 'terminal = "5001002"', "standing[1].terminal"),
        ("areas.toml", 'committee = "Rural North"', 'committee = "X"', "wards[0].committee"),
        ("areas.toml", 'area = "Northern"', 'area = "X"', "wards[0].area: not one of areas"),
        ("areas.toml", 'name = "Barnack"', 'name = "Fletton and Woodston"', "wards[20].variants"),
        ("areas.toml", '["Eastern", ', '["Southern", ', "areas: one stands twice"),
        ("fleet.toml", "budget = 73", "budget = 72", "device_classes.tetra: budget"),
        ("fleet.toml", "1 = { shown", "0 = { shown", "statuses.0"),
        ("fleet.toml", '1 = { shown = "AVL" }', '1 = { shown = "AWAY" }', "statuses.1.shown"),
        ("fleet.toml", '1 = { shown = "AVL" }', '1 = { effect = "nap" }', "statuses.1.effect"),
        ("policy.toml", 'reasons = ["1", "2"', 'reasons = ["1", "77"', "rules[0].reasons: 77"),
        ("policy.toml", "L0 = []", "L9 = []", "rules[17].level: not among levels"),
        ("policy.toml", 'level = "L3"', 'level = "L7"', "rules[0].level: Invalid enum value 'L7'"),
        ("warnings.toml", 'word = "FIREARMS"', 'word = "Firearms"', "codes.FI.word"),
        ("warnings.toml", 'word = "FIREARMS"', f'word = "{"F" * 19}"', "codes.FI.word"),
        ("warnings.toml", 'base = "FIREARMS"', 'base = "FIREARMSXX"', "codes.FI.base"),
        ("warnings.toml", 'base = "FIREARMS"', 'base = ""', "codes.FI.base: missing"),
        ("warnings.toml", 'short = "FIR"', 'short = "FIRE"', "codes.FI.short"),
        ("warnings.toml", 'short = "WTD"', 'short = "NEW"', "critical and high: more than 14"),
        ("warnings.toml", 'tier = "WITHDRAW"', 'tier = "CLEAR"', "codes.FI.tier: a critical"),
        ("warnings.toml", 'tier = "WITHDRAW"', 'tier = "RUN"', "codes.FI.tier: one of"),
        ("warnings.toml", 'severity = "critical"', 'severity = "bad"', "codes.FI.severity"),
        ("warnings.toml", 'hit = "HIT_CRITICAL"', 'hit = "HIT_HARD"', "codes.FI.hit"),
        ("warnings.toml", 'order = "c"', 'order = "z"', "codes.SU.order"),
        ("warnings.toml", 'severity = "high"', 'severity = "low"', "unknown: must be a danger"),
    ],
)
def test_faults_of_the_data_files(
    folder: Folder, name: str, old: str, new: str, finding: str
) -> None:
    """File, key and reason of each fault in people, radios, areas, policy and words."""
    folder.change(name, old, new)
    findings = folder.findings()
    assert any(found.startswith(f"{name}: ") and finding in found for found in findings), findings


@pytest.mark.parametrize("name", ["phone", "a/b/c", "+/phone", "nora/#", "/phone", "nora/"])
def test_a_name_that_no_phone_can_have_is_told(folder: Folder, name: str) -> None:
    """It would never be heard. Without phones nobody minds."""
    issi = 'issi = "5001001"'
    folder.change("fleet.toml", issi, f'{issi}\nnames.owntracks = "{name}"')
    load(folder.main)
    folder.write("[[owntracks]]\nname = 'a'")
    (found,) = folder.findings()
    assert found.startswith("fleet.toml: ")
    assert "terminals[0].names.owntracks: no phone is called so: user/device" in found
    assert "5001001" not in found


def test_no_two_terminals_have_one_name_in_a_protocol(folder: Folder) -> None:
    """One would be shown where the other is. In another protocol, or of another case, it is
    another name; a revoked radio keeps its own."""
    fleet = (folder.path / "fleet.toml").read_text()
    last = 'issi = "5001002"'

    def called(first: str, second: str) -> str:
        text = fleet.replace('issi = "5001001"', f'issi = "5001001"\nrevoked = true\n{first}', 1)
        return text.replace(last, f"{last}\n{second}", 1)

    apart = called('names = { x = "a/b", y = "c" }', 'names = { y = "a/b", x = "A/b" }')
    folder.write(apart, "fleet.toml")
    load(folder.main)
    text = called('names = { x = "a/b" }', 'names.x = "a/b"')
    folder.write(text, "fleet.toml")
    line = text[: text.index("names.x")].count("\n") + 1
    assert folder.findings() == [
        f"fleet.toml: terminals[1].names.x: another terminal is called so (line {line})"
    ]


def test_without_a_status_for_received_nobody_could_say_so(folder: Folder) -> None:
    """The sample has two, one in TETRA's values: without either it is told."""
    fleet = (folder.path / "fleet.toml").read_text()
    folder.write(fleet.replace('{ effect = "received" }', '{ shown = "AVL" }'), "fleet.toml")
    (found,) = folder.findings()
    assert found.startswith("fleet.toml: statuses: none with effect received")


def test_a_finding_says_on_which_line(folder: Folder) -> None:
    """Also one that is about what a value means, in any of the files."""
    folder.write(
        "# a comment\n[http]\n  host = '0.0.0.0' # open to all\n[[serial]]\nname = 'a'\n"
        "port = '/dev/x'\nterminal = '5001001'\nparity = 'Q'\n"
    )
    fleet = (folder.path / "fleet.toml").read_text().replace('area = "Northern"', 'area = "X"', 1)
    folder.write(fleet, "fleet.toml")
    line = fleet[: fleet.index('area = "X"')].count("\n") + 1
    found = "\n".join(folder.findings())
    assert "http.host: other than loopback (127.0.0.1) only with TLS: cert_file, " in found
    assert "key_file (line 3)" in found
    assert "serial a: parity: one of N E O M S (line 8)" in found
    assert f".area: not one of areas in the areas file (line {line})" in found


def test_a_file_that_is_not_there_or_no_text_is_one_finding(folder: Folder) -> None:
    """Nothing is guessed about the files that it would have named."""
    folder.main.write_bytes(b"[gateway]\ninstance = '\xff'")
    assert folder.findings() == ["gateway.toml: not UTF-8"]
    folder.main.unlink()
    assert folder.findings() == [f"{folder.main}: cannot be read: No such file or directory"]


def test_a_faulty_file_still_tells_which_others_are_faulty(folder: Folder) -> None:
    """The files that it names are found, although another section is wrong."""
    (folder.path / "fleet.toml").rename(folder.path / "radios.toml")
    folder.write("[gateway]\nfleet = 'radios.toml'\n[http]\nprot = 1\n")
    assert folder.findings() == [
        "gateway.toml: http.prot: unknown; did you mean port? (line 4)",
    ]


def test_findings_do_not_quote_what_may_be_a_name_or_a_secret(folder: Folder) -> None:
    folder.change("people.toml", 'surname = "TESTER"', 'surname = ["SYNTHA-PLANTED"]')
    folder.write("[[mqtt]]\nname = 'a'\npassword_file = ['hunter2']\nport = 'hunter2'")
    found = "\n".join(folder.findings())
    assert "officers[0].surname: Expected str, got array" in found
    assert "PLANTED" not in found
    assert "hunter2" not in found


def test_all_faults_are_said_at_once(folder: Folder) -> None:
    """One run shows the faults of every file and section, so that one edit mends them."""
    folder.write("[http]\nhost = '0.0.0.0'\n[checks]\nretries = 9\n")
    folder.change("fleet.toml", 'area = "Eastern"', 'area = "Western"')
    folder.change("policy.toml", "L0 = []", "L9 = []")
    folder.change("warnings.toml", 'short = "FIR"', 'short = "fir"')
    found = "\n".join(folder.findings())
    folder.change("people.toml", 'agency = "police"', 'agency = "navy"')
    found = "\n".join(folder.findings())
    for where in ("http.host", "checks.retries", "fleet.toml", "people.toml", "policy.toml"):
        assert where in found


def test_a_warning_table_that_loads_always_fits_page_1(folder: Folder) -> None:
    """What the check lets in, rendering can show: all danger words of the file on one page."""
    table = load(folder.main).warnings
    words = [
        Shown(word.word, word.base, word.short)
        for part in (table.codes, table.circulations, table.reports)
        for word in part.values()
        if word.severity in {"critical", "high"}
    ]
    words.append(Shown(table.unknown.word, table.unknown.base, table.unknown.short))
    shown = View(
        outcome=Outcome.ANSWERED, level="L3", result_class="HIT_WANTED", dangers=tuple(words)
    )
    first = rendering.screens(shown, short="C8A1", clock_text="05:24")[0]
    assert all(word.short in first.split("!!", 1)[1] for word in words)


def test_data_files_carry_what_the_code_must_not() -> None:
    """Warning codes, what they rank with, reasons' labels, areas, committees and wards are data: no
    string of the source is one of them."""
    data = {
        *WARNINGS.codes,
        "WANTED_ARREST",
        "WANTED_RECALL",
        "CRIME_SUSPECT",
        *(reason.label for reason in POLICY.reasons.values()),
        *AREAS.areas,
        *AREAS.committees,
        *(ward.name for ward in AREAS.wards),
        *(name for ward in AREAS.wards for name in ward.variants),
    }
    assert len(data) > 60
    for package in ("gateway", "adapters"):
        for path in (CONFIG.parent / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                value = node.value if isinstance(node, ast.Constant) else None
                assert not isinstance(value, str) or value not in data, (path, node)


OLD_FLEET = """
version = "2026-08-01"
areas = ["Eastern"]
agencies = ["police"]
[statuses]
1 = "AVL"
2 = "AVL"
[device_classes.handheld]
budget = 140
[[terminals]]
issi = "5001001"
callsign = "E-101"
officer = "1001"
surname = "TESTER"
rank = "PC"
agency = "police"
role = "constable"
area = "Eastern"
[[terminals]]
issi = "5001002"
callsign = "E-102"
officer = "1002"
surname = "SYNTHA"
agency = "police"
role = "constable"
area = "Eastern"
"""


def test_files_from_before_people_had_one_say_what_to_do(folder: Folder) -> None:
    """One finding for each thing that moved, however often it stands there, and how to mend it."""
    folder.write(OLD_FLEET, "fleet.toml")
    policy = (folder.path / "policy.toml").read_text()
    folder.write(re.sub(r"\{ label = (\"[^\"]*\").*\}", r"\1", policy), "policy.toml")
    (folder.path / "people.toml").unlink()
    (folder.path / "areas.toml").unlink()
    told = folder.findings()
    for begins, says in (
        ("fleet.toml: areas: stands in areas.toml now", "(line 3)"),
        ("fleet.toml: statuses.1: is { shown", "(line 6)"),
        ("fleet.toml: terminals[0].officer: officers stand in people.toml now", "(line 13)"),
        (f"{folder.path}/people.toml: cannot be read", "config/people.toml"),
        (f"{folder.path}/areas.toml: cannot be read", "config/areas.toml"),
        ("policy.toml: reasons.0: is { label", "(line"),
    ):
        assert len([each for each in told if each.startswith(begins) and says in each]) == 1, told
    assert len(told) == 6


OPERATOR = '[[operators]]\nid = "ann"\nroles = ["operator"]\n'


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"ann"', '"Ann Synth"', "operators[0].id: a-z"),
        ('["operator"]', '["king"]', "operators[0].roles: some of operator"),
        ('["operator"]', "[]", "operators[0].roles: some of operator"),
        ('["operator"]', '["ops"]\nareas = ["Mars"]', "operators[0].areas: not of areas"),
        ('["operator"]', '["ops"]\nagency = "navy"', "operators[0].agency: not one of"),
        ('["operator"]', '["ops"]\nname = "a\\u0007"', "operators[0].name: at most 40"),
        ('["operator"]', '["ops"]\npassword = "hunter2"', "operators[0].password: as `account"),
        ('["operator"]', '["ops"]\n' + OPERATOR, "operators[1].id: stands twice"),
        (
            '["operator"]',
            '["ops"]\nsubject = "s"\n[[operators]]\nid = "bob"\nroles = ["ops"]\nsubject = "s"',
            "operators[1].subject: stands twice",
        ),
    ],
)
def test_an_operator_is_somebody(folder: Folder, old: str, new: str, told: str) -> None:
    """And a password that somebody wrote down in clear is refused, without being said."""
    people = (folder.path / "people.toml").read_text()
    assert load(folder.main).people.operators == (), "nobody has an account by default"
    folder.write(people + OPERATOR, "people.toml")
    assert load(folder.main).people.operators[0].id == "ann"
    folder.write(people + OPERATOR.replace(old, new), "people.toml")
    found = folder.findings()
    assert any(f"people.toml: {told}" in each for each in found), found
    assert not any("hunter2" in each for each in found)


def test_production_knows_no_standing_booking(folder: Folder) -> None:
    anchored = "[audit]\nanchors = [{ kind = 'file', path = 'heads.jsonl' }]"
    anchored += "\n[auth]\nallow_local_in_production = true"
    folder.write(f"[gateway]\nprofile = 'production'\n{anchored}")
    assert [each.split(":")[:2] for each in folder.findings()] == [["people.toml", " standing[0]"]]
    folder.write("[gateway]\nprofile = 'live'")
    assert any("gateway.profile: training or production" in each for each in folder.findings())


def test_a_radio_that_was_struck_off_is_no_fault_of_the_people(folder: Folder) -> None:
    """A lost radio goes at once, by one file."""
    text = (folder.path / "fleet.toml").read_text()
    head, first, *others = text.split("[[terminals]]")
    assert "5001001" in first
    folder.write("[[terminals]]".join([head, *others]), "fleet.toml")
    assert len(load(folder.main).fleet.terminals) == 14


def test_what_a_console_role_may_see_is_of_closed_sets(folder: Folder) -> None:
    """Rights and other areas by their names, and the sample of them is taken."""
    rule = '\n[[console]]\nrole = "operator"\nrights = ["class"]\nother_areas = "dot"\n'
    policy, _, rest = (folder.path / "policy.toml").read_text().partition("\n[[console]]")
    assert 'role = "relay"' in rest
    folder.write(policy + rule, "policy.toml")
    *_, taken = load(folder.main).policy.console
    assert (taken.role, taken.rights, taken.other_areas) == ("operator", ("class",), "dot")
    faulty = rule.replace('"class"', '"everything"').replace('"dot"', '"some"')
    folder.write(policy + faulty, "policy.toml")
    found = "\n".join(folder.findings())
    assert "console[0].rights: of class, callsign" in found
    assert "console[0].other_areas: one of full" in found
    folder.write(policy + rule + rule, "policy.toml")
    assert "console[1].role: stands twice" in "\n".join(folder.findings())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reasons": {"5": Reason(label="x", text_min=2)}}, "reasons.5.text_min: 0, or 3 to 250"),
        ({"reasons": {"5": Reason(label="x", text_min=251)}}, "reasons.5.text_min"),
        ({"reasons": {"5": Reason(label="x", default_text="no")}}, "reasons.5.default_text"),
        ({"reasons": {"5": Reason(label="x", default_text="kein")}}, "reasons.5.default_text"),
        ({"coach": Coach(least_words=0)}, "coach.least_words: between 1 and 5"),
        ({"coach": Coach(empty=("A B C D E F",))}, "coach.empty[0]: 1 to 5 words"),
        ({"coach": Coach(empty=("",))}, "coach.empty[0]"),
        ({"coach": Coach(empty=("X",) * 501)}, "coach.empty: at most 500"),
        ({"challenge": Challenges(rate=1.1)}, "challenge.rate: between 0 and 1"),
        ({"challenge": Challenges(always=("off_area",))}, "challenge.always: of repeat_subject"),
        ({"challenge": Challenges(repeat_days=91)}, "challenge.repeat_days: between 1 and 90"),
        ({"challenge": Challenges(answer_min=61)}, "challenge.answer_min: between 3 and 60"),
        ({"challenge": Challenges(within_h=0.5)}, "challenge.within_h: between 1 and 168"),
        ({"originator_max": 49}, "originator_max: between 50"),
    ],
)
def test_a_policy_that_nobody_could_ask_under_is_refused(
    changes: dict[str, object], says: str
) -> None:
    policy = msgspec.structs.replace(POLICY, rules=(), **changes)
    assert any(found.startswith(says) for found in check_policy(policy))


@pytest.mark.parametrize(
    ("keys", "finding"),
    [
        ("transport = 'http'", "transport: tcp, tls or multicast"),
        ("transport = 'multicast'", "host: an IPv4 group"),
        ("host = '239.2.3.1'", "host: a name or an address; a group needs"),
        ("host = 'tak.example'", "transport: leaves this host unencrypted"),
        ("transport = 'multicast'\nhost = '239.2.3.1'", "transport: leaves this host"),
        ("cert_file = 'a.crt'", "cert_file: needs transport tls"),
        ("transport = 'tls'\nkey_file = 'a.key'", "key_file: needs cert_file"),
        ("transport = 'tls'\ncert_file = 'no.crt'", "cert_file: no such file"),
        ("interface = '127.0.0.1'", "interface: an IPv4 address of this host, with transport"),
        ("areas = ['Estern']", "areas: Estern: no terminal has it"),
        ("agency = 'navy'", "agency: none of the fleet file's"),
        ("team = 'Pink'", "team: one of White, Yellow"),
        ("teams = { Eastern = 'Pink' }", "teams.Eastern: one of White, Yellow"),
        ("role = 'Boss'", "role: one of Team Member"),
        ("uid_prefix = 'a b'", "uid_prefix: letters"),
        ("uid_prefix = ''", "uid_prefix: letters"),
        ("type = 'b-a-o-tbl'", "type: of an atom"),
        ("emergency_repeat_s = 20", "emergency_repeat_s: between 1 and 8"),
        ("min_interval_s = -1", "min_interval_s: between 0 and 600"),
    ],
)
def test_what_is_wrong_with_a_way_to_tak_is_named(folder: Folder, keys: str, finding: str) -> None:
    folder.write(f"[[cot]]\nname = 'tak'\n{keys}")
    assert any(f"cot tak: {finding}" in found for found in folder.findings()), folder.findings()


@pytest.mark.parametrize(
    "keys",
    [
        "",
        "host = 'tak.example'\nallow_plain = true",
        "transport = 'tls'\nhost = 'tak.example'\nport = 8089",
        "transport = 'multicast'\nhost = '239.2.3.1'\nttl = 0\ninterface = '127.0.0.1'",
        "agency = 'police'\nareas = ['Eastern']\nteams = { Eastern = 'Dark Blue' }",
    ],
)
def test_ways_to_tak_that_are_right(folder: Folder, keys: str) -> None:
    folder.write(f"[[cot]]\nname = 'tak'\n{keys}")
    assert load(folder.main).settings.cot[0].name == "tak"


def test_no_two_links_have_one_name(folder: Folder) -> None:
    """A way to TAK named as a broker, or as a broker's feed, would be lost in the figures."""
    for name, finding in (("a", "link name a: used twice"), ("a-feed", "a broker's feed has it")):
        folder.write(f"[[mqtt]]\nname = 'a'\n[[cot]]\nname = '{name}'")
        assert any(finding in found for found in folder.findings())
