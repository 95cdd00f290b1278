"""Credentials come from files or there is no connection; what is wrong is said without values."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from adapters import client_tls, mqtt_access
from adapters.mqtt_access import Access
from gateway.errors import LinkDown
from gateway.settings import BrokerSection

PLAIN = BrokerSection(name="mqtt")
TLS = BrokerSection(name="mqtt", tls=True)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration's own path: what stands in it is relative to its folder."""
    return tmp_path / "gateway.toml"


def refused(config: Path, section: BrokerSection, **files: str) -> str:
    with pytest.raises(LinkDown) as caught:
        mqtt_access.read(config, section, Access(client_id="gw", **files))
    assert caught.value.refused, "nothing but an operator mends it"
    return caught.value.reason


def test_a_password_is_read_as_it_stands_but_for_its_line_end(config: Path) -> None:
    """Each time anew: one that was changed holds for the next connection."""
    access = Access(client_id="gw", username="gw", password_file="secret")
    secret = config.parent / "secret"
    for written, read in (("two words \r\n", "two words "), ("déjà\n", "déjà")):
        secret.write_text(written, "utf-8", newline="")
        found = mqtt_access.read(config, PLAIN, access)
        assert (found.username, found.password) == ("gw", read)
        assert read not in repr(found)


def test_no_password_file_is_no_password(config: Path) -> None:
    found = mqtt_access.read(config, PLAIN, Access(client_id="gw"))
    assert (found.username, found.password, found.tls) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "password file cannot be read"),
        (b"", "password file is empty or too long"),
        (b"\n", "password file is empty or too long"),
        (b"s" * 5000, "password file is empty or too long"),
        (b"\xff\xfe", "password file cannot be read"),
    ],
)
def test_a_password_that_is_not_there_is_no_connection(
    config: Path, content: bytes | None, reason: str
) -> None:
    """Never a log-in without it: a broker might let an unnamed one in, with other rights."""
    if content is not None:
        (config.parent / "secret").write_bytes(content)
    assert refused(config, PLAIN, username="gw", password_file="secret") == reason


def test_a_certificate_is_never_left_out(config: Path) -> None:
    """Without TLS it could not be shown; missing, it could not; both are no connection."""
    cannot = "certificate file cannot be used"
    assert refused(config, PLAIN, cert_file="c.pem") == "client certificate without TLS"
    assert refused(config, TLS, cert_file="c.pem") == cannot
    (config.parent / "c.pem").write_text("no certificate")
    assert refused(config, TLS, cert_file="c.pem") == cannot
    missing = BrokerSection(name="mqtt", tls=True, ca_file="ca.pem")
    assert refused(config, missing) == cannot
    (config.parent / "ca.pem").write_text("no certificate")
    assert refused(config, missing) == cannot


def test_a_key_with_a_pass_phrase_fails_instead_of_asking(config: Path) -> None:
    """OpenSSL would ask on the terminal, and the daemon would wait there for ever."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:P-256", "-passout", "pass:TESTER", "-days", "2"),
            *("-keyout", "k.pem", "-out", "c.pem", "-subj", "/CN=client"),
        ],
        cwd=config.parent,
        check=True,
        capture_output=True,
    )
    reason = refused(config, TLS, cert_file="c.pem", key_file="k.pem")
    assert reason == "certificate file cannot be used"


def test_verification_cannot_be_turned_off(config: Path) -> None:
    found = mqtt_access.read(config, TLS, Access(client_id="gw"))
    assert found.tls is not None
    assert found.tls.verify_mode is ssl.CERT_REQUIRED
    assert found.tls.check_hostname
    assert found.tls.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_whatever_we_are_known_by_changes_the_fingerprint(config: Path) -> None:
    """M17: passwords, certificates, keys, the CA, of each of the three sessions; a file that is
    missing is a change, too, and no error: the connection says that."""
    names = [
        *("ca_file", "cert_file", "key_file", "password_file"),
        *("status_cert_file", "status_key_file", "status_password_file"),
        *("feed_cert_file", "feed_key_file", "feed_password_file"),
    ]
    assert {each for each in BrokerSection.__struct_fields__ if each.endswith("_file")} == {*names}
    section = BrokerSection(name="mqtt", tls=True, **{name: f"{name}.pem" for name in names})
    for name in names:
        (config.parent / f"{name}.pem").write_text("old")
    seen = {client_tls.fingerprint(config, section)}
    assert client_tls.fingerprint(config, section) in seen
    for name in names:
        (config.parent / f"{name}.pem").write_text("new")
        seen.add(client_tls.fingerprint(config, section))
    (config.parent / f"{names[0]}.pem").unlink()
    seen.add(client_tls.fingerprint(config, section))
    assert len(seen) == len(names) + 2


def test_the_certificates_that_are_watched_are_those_that_are_shown(config: Path) -> None:
    """A session without one of its own shows that of the first; without TLS there is none."""
    named = {"ca_file": "ca.pem", "cert_file": "a.pem", "status_cert_file": "b.pem"}
    section = BrokerSection(name="mqtt", tls=True, **named)
    found = {name: path.name for name, path in mqtt_access.files(config, section).items()}
    assert found == {
        "mqtt": "a.pem",
        "mqtt-status": "b.pem",
        "mqtt-feed": "a.pem",
        "mqtt-ca": "ca.pem",
    }
    assert mqtt_access.files(config, PLAIN) == {}
    assert mqtt_access.files(config, BrokerSection(name="mqtt", tls=True)) == {}
