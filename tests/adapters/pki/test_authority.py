"""The development CA: names that are no wildcards, short lives, nothing overwritten, keys kept."""

from __future__ import annotations

import re
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from adapters.certificates import life
from adapters.pki.authority import Authority, check
from adapters.pki.words import PkiError
from gateway import cli

ISSI = "5001001"


class Time:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def authority(tmp_path: Path, time: Time) -> Authority:
    made = Authority(tmp_path / "pki", now=time)
    made.init()
    return made


def read(authority: Authority, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((authority.folder / f"{name}.crt").read_bytes())


def verdict(authority: Authority, name: str, purpose: str) -> str:
    """What openssl says of it, the revocation list included; empty when it is good."""
    done = subprocess.run(
        [
            *("openssl", "verify", "-CAfile", "ca.crt", "-CRLfile", "crl.pem", "-crl_check"),
            *("-purpose", purpose, f"{name}.crt"),
        ],
        cwd=authority.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stderr


# --------------------------------------------------------------------------- names


@given(st.text(max_size=12) | st.from_regex(r"[0-9+#/$%]{1,9}", fullmatch=True))
def test_a_name_is_never_more_than_one_level_of_a_topic(name: str) -> None:
    """M10: no wildcard, no separator, no `$SYS`, no look-alike digit; nor another file."""
    try:
        check(name)
    except PkiError:
        return
    assert re.fullmatch(r"[0-9]{1,8}|[a-z][a-z0-9-]{0,30}", name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "+", "#", "500+1", "5001001/x", "../5001001", "$SYS", "500100111", "5001001\n"),
        *("٥٠٠١", "5001001\0", "ca", "crl", "index", "gateway", "Broker", "a b", "%u", "-x"),
    ],
)
def test_such_a_name_is_refused_and_nothing_is_made(authority: Authority, name: str) -> None:
    before = sorted(authority.folder.iterdir())
    for verb in (authority.issue, authority.renew, authority.revoke):
        with pytest.raises(PkiError):
            verb(name)
    assert sorted(authority.folder.iterdir()) == before


# --------------------------------------------------------------------------- certificates


def test_a_terminals_certificate_is_a_client_of_that_name_and_nothing_else(
    authority: Authority, time: Time
) -> None:
    """P-256, common name the ISSI, for a week, not a CA, not a server."""
    authority.issue(ISSI)
    made = read(authority, ISSI)
    assert made.subject.rfc4514_string() == f"CN={ISSI}"
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert made.not_valid_after_utc - time.now == timedelta(days=7)
    assert made.not_valid_before_utc < time.now
    assert verdict(authority, ISSI, "sslclient") == ""
    assert "purpose" in verdict(authority, ISSI, "sslserver")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"radio-gateway:terminal:{ISSI}"
    ]


def test_the_brokers_may_serve_under_its_hosts_and_be_nobodys_client(authority: Authority) -> None:
    authority.issue("broker", hosts=["127.0.0.1", "mqtt.example.org"])
    assert verdict(authority, "broker", "sslserver") == ""
    assert "purpose" in verdict(authority, "broker", "sslclient")
    names = read(authority, "broker").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["mqtt.example.org"]
    assert [str(ip) for ip in names.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    with pytest.raises(PkiError, match="needs --host"):
        authority.issue("broker")
    with pytest.raises(PkiError, match="broker alone"):
        authority.issue(ISSI, hosts=["127.0.0.1"])


def test_a_terminal_cannot_pose_as_the_broker(authority: Authority) -> None:
    """Its certificate is by our CA, but for a client: whoever connects to it hangs up."""
    authority.issue(ISSI)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(authority.folder / f"{ISSI}.crt", authority.folder / f"{ISSI}.key")
    client = ssl.create_default_context(cafile=authority.folder / "ca.crt")
    one = client.wrap_bio(ours, theirs, server_hostname="127.0.0.1")
    two = server.wrap_bio(theirs, ours, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError):  # noqa: PT012 - a handshake takes turns
        for _ in range(10):
            for side in (one, two):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue


@pytest.mark.parametrize("days", [0.0, -1.0, 30.1, 365.0, float("nan")])
def test_no_life_is_longer_than_a_month(authority: Authority, days: float) -> None:
    with pytest.raises(PkiError, match="at most 30"):
        authority.issue(ISSI, days=days)
    assert not (authority.folder / f"{ISSI}.crt").exists()


def test_nothing_outlives_its_ca(authority: Authority, time: Time) -> None:
    """And a CA that has run out signs no more, instead of certificates that nobody would take."""
    ends = x509.load_pem_x509_certificate((authority.folder / "ca.crt").read_bytes())
    time.now += timedelta(days=364)
    authority.issue(ISSI)
    assert read(authority, ISSI).not_valid_after_utc == ends.not_valid_after_utc
    time.now += timedelta(days=2)
    with pytest.raises(PkiError, match="has expired"):
        authority.renew(ISSI)


# --------------------------------------------------------------------------- files


def test_keys_are_for_their_owner_alone_from_the_first_byte(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask is; what is public can be read by the broker's user."""
    seen: list[int] = []
    put = authority._put

    def watched(name: str, data: bytes, mode: int) -> None:
        put(name, data, mode)
        seen.append(stat.S_IMODE((authority.folder / name).stat().st_mode))
        assert seen[-1] == mode

    monkeypatch.setattr(authority, "_put", watched)
    authority.issue(ISSI)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in authority.folder.iterdir()}
    for name, mode in modes.items():
        private = name.endswith(".key") or name in {"index.json", ".lock"}
        assert mode == (0o600 if private else 0o644), name
    assert f"{ISSI}.key" in modes


def test_nothing_is_overwritten(authority: Authority) -> None:
    """A second CA would make every certificate worthless; a second key, the first terminal."""
    authority.issue(ISSI)
    before = {path: path.read_bytes() for path in authority.folder.iterdir()}
    with pytest.raises(PkiError, match="holds a CA already"):
        authority.init()
    with pytest.raises(PkiError, match="is there already"):
        authority.issue(ISSI)
    (authority.folder / f"{ISSI}.crt").rename(authority.folder / "elsewhere")
    with pytest.raises(PkiError, match="is there already"):
        authority.issue(ISSI)
    (authority.folder / "elsewhere").rename(authority.folder / f"{ISSI}.crt")
    assert {path: path.read_bytes() for path in authority.folder.iterdir()} == before


def test_a_renewal_keeps_the_key_and_is_one_rename(authority: Authority, time: Time) -> None:
    """Whoever reads both files at any moment has a pair that fits."""
    authority.issue("broker", hosts=["127.0.0.1", "localhost"])
    key = (authority.folder / "broker.key").read_bytes()
    old = read(authority, "broker")
    time.now += timedelta(days=20)
    authority.renew("broker")
    new = read(authority, "broker")
    assert (authority.folder / "broker.key").read_bytes() == key
    assert new.public_key() == old.public_key()
    assert new.serial_number != old.serial_number
    assert new.not_valid_after_utc - old.not_valid_after_utc == timedelta(days=20)
    kind = x509.SubjectAlternativeName
    assert new.extensions.get_extension_for_class(kind) == old.extensions.get_extension_for_class(
        kind
    )
    with pytest.raises(PkiError, match="is not there"):
        authority.renew("5001002")


def test_a_revocation_takes_back_every_certificate_of_the_name(
    authority: Authority, time: Time
) -> None:
    """A copy of an older one that still holds is worth as much to a thief as the newest."""
    authority.issue(ISSI)
    first = (authority.folder / f"{ISSI}.crt").read_bytes()
    authority.renew(ISSI)
    second = (authority.folder / f"{ISSI}.crt").read_bytes()
    authority.issue("5001002")
    assert len(authority.revoke(ISSI)) == 2
    assert not (authority.folder / f"{ISSI}.key").exists()
    for copy in (first, second):
        (authority.folder / "copy.crt").write_bytes(copy)
        assert "revoked" in verdict(authority, "copy", "sslclient")
    assert verdict(authority, "5001002", "sslclient") == ""
    with pytest.raises(PkiError, match="no certificate that holds"):
        authority.revoke(ISSI)
    authority.issue(ISSI)
    assert verdict(authority, ISSI, "sslclient") == ""
    states = [(each.name, authority.state(each)) for each in authority.show()]
    assert sorted(states) == [
        *((ISSI, "good"), (ISSI, "revoked"), (ISSI, "revoked")),
        ("5001002", "good"),
    ]
    time.now += timedelta(days=8)
    assert [authority.state(each) for each in authority.show()].count("expired") == 2


def test_the_revocation_list_holds_as_long_as_the_ca(authority: Authority) -> None:
    """One that ran out would refuse every terminal at once."""
    listed = x509.load_pem_x509_crl((authority.folder / "crl.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((authority.folder / "ca.crt").read_bytes())
    assert listed.next_update_utc == ca.not_valid_after_utc


def test_how_long_a_file_holds(authority: Authority, time: Time) -> None:
    authority.issue(ISSI, days=1)
    since_ms, until_ms = life((authority.folder / f"{ISSI}.crt").read_bytes())
    now_ms = time.now.timestamp() * 1000
    assert since_ms < now_ms < until_ms == now_ms + 86_400_000
    with pytest.raises(ValueError):
        life((authority.folder / f"{ISSI}.key").read_bytes())


# --------------------------------------------------------------------------- the command line


def test_the_commands_from_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "pki")
    assert cli.main(["pki", "init", folder]) == 0
    assert cli.main(["pki", "issue", folder, "broker", "gateway", "--host", "localhost"]) == 0
    assert cli.main(["pki", "issue", folder, ISSI, "--days", "1"]) == 0
    assert cli.main(["pki", "renew", folder, "gateway", ISSI]) == 0
    assert cli.main(["pki", "revoke", folder, ISSI]) == 0
    capsys.readouterr()
    assert cli.main(["pki", "show", folder]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown].count([ISSI, "revoked"]) == 2
    names = {line.split()[0] for line in shown}
    assert names == {
        *("broker", "radio-gateway", "radio-gateway-status", "radio-gateway-feed", ISSI)
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["issue", "DIR", "500+1"], "'500+1': no name"),
        (["issue", "DIR", ISSI, "--days", "90"], "at most 30"),
        (["issue", "DIR", ISSI, "--host", "localhost"], "--host: is for the broker alone"),
        (["issue", "DIR", "broker", "--host", "a b"], "neither a name nor an address"),
        (["renew", "DIR", ISSI], f"{ISSI}.crt: is not there"),
        (["init", "DIR"], "holds a CA already"),
        (["issue", "NOWHERE", ISSI], "`pki init` makes it"),
        (["show", "NOWHERE"], "is not there"),
    ],
)
def test_what_is_wrong_is_one_line_and_1(
    authority: Authority, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    paths = {"DIR": str(authority.folder), "NOWHERE": str(authority.folder / "nowhere")}
    assert cli.main(["pki", *(paths.get(word, word) for word in words)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_all_names_are_judged_before_anything_is_made(authority: Authority) -> None:
    assert cli.main(["pki", "issue", str(authority.folder), ISSI, "#"]) == 1
    assert not (authority.folder / f"{ISSI}.key").exists()
