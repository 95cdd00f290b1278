"""Credentials that run out, are not valid yet, are renewed or changed: rows M15 and M17.

Against a real mosquitto, with certificates whose times are set; nothing waits for them to pass.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest

from adapters.certificates import life
from gateway.errors import LinkDown
from gateway.messages import CheckRequest, LinkState
from gateway.supervise import REFUSED_S, keep
from tests.adapters.links.test_mqtt_broker import CHECK, ISSI, Rig, until
from tests.fakes import FakeClock, FakeIds
from tests.services import mosquitto
from tests.services.mosquitto import Mosquitto
from tests.services.pki import KEY, Pki

WITHIN_S = 10.0
CA = """
[ca]
default_ca = ours
[ours]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
"""


def days(number: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=number)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    (made.folder / "ca.conf").write_text(CA)
    (made.folder / "index").touch()
    (made.folder / "serial").write_text("1000\n")
    for name in ("server", "gw", ISSI):
        made.issue(name)
    dated(made, "server-old", days(-9), days(-1))
    dated(made, "server-new", days(1), days(9))
    dated(made, "gw-old", days(-9), days(-1))
    dated(made, "gw-new", days(1), days(9))
    return made


def dated(pki: Pki, name: str, since: datetime, until_: datetime) -> None:
    """A certificate with these times, which `x509` of OpenSSL 3.0 cannot make."""
    pki._openssl(
        *("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        *("-subj", f"/CN={name.partition('-')[0]}"),
    )
    pki._openssl(
        *("ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key"),
        *("-startdate", f"{since:%Y%m%d%H%M%SZ}", "-enddate", f"{until_:%Y%m%d%H%M%SZ}"),
        *("-extfile", "san", "-in", f"{name}.csr", "-out", f"{name}.crt"),
    )


@pytest.mark.parametrize(
    ("since", "until_"), [(days(-1), days(9)), (days(0), datetime(2061, 2, 3, 4, 5, 6, tzinfo=UTC))]
)
def test_the_times_of_a_certificate(pki: Pki, since: datetime, until_: datetime) -> None:
    """As they were set; from 2050 on they are written in another form."""
    dated(pki, "read", since, until_)
    pem = Path(pki.path("read.crt")).read_text("ascii")
    held = life(f"some words before it\n{pem}".encode())
    assert held == (since.timestamp() * 1000, until_.timestamp() * 1000)


@pytest.mark.parametrize("cut", [0, 1, 5, 40, 100])
def test_what_is_no_certificate_has_no_times(cut: int) -> None:
    """Never anything but ValueError, which the link tells as a file that cannot be used."""
    for der in (bytes(cut), b"\x30\x82" + bytes(cut), b"\x30\x03\x02\x01\x01", b"\x30\x80" * cut):
        with pytest.raises(ValueError):
            life(ssl.DER_cert_to_PEM_cert(der).encode() if der else b"")


def lines(pki: Pki, server: str) -> tuple[str, ...]:
    return (
        "allow_anonymous false",
        f"cafile {pki.path('ca.crt')}",
        f"certfile {pki.path(f'{server}.crt')}",
        f"keyfile {pki.path(f'{server}.key')}",
        "require_certificate true",
        "use_identity_as_username true",
    )


def rig_with(broker: Mosquitto, pki: Pki, cert: str) -> Rig:
    return Rig(
        broker,
        tls=True,
        ca_file=pki.path("ca.crt"),
        cert_file=cert,
        key_file=cert.replace(".crt", ".key"),
    )


@pytest.mark.parametrize(
    ("server", "client", "says", "refused"),
    [
        ("server-old", "gw", "certificate of the broker has expired", False),
        ("server-new", "gw", "certificate of the broker is not valid yet", False),
        ("server", "gw-old", "our certificate has expired", True),
        ("server", "gw-new", "our certificate is not valid yet", True),
    ],
)
async def test_a_certificate_out_of_its_time_is_said_as_such(
    pki: Pki, tmp_path: Path, server: str, client: str, says: str, refused: bool
) -> None:
    """M15: of either side, and what must be mended differs."""
    with mosquitto.running(tmp_path / "broker", lines=lines(pki, server)) as broker:
        rig = rig_with(broker, pki, pki.path(f"{client}.crt"))
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(LinkDown) as caught:
                await rig.link.run(rig.desk, rig.up.set)
    assert (caught.value.reason, caught.value.refused) == (says, refused)


async def test_a_renewed_certificate_is_taken_up_and_what_waited_is_not_lost(
    pki: Pki, tmp_path: Path
) -> None:
    """M15: expired on our side, renewed in its file: the session is the same, and what terminals
    said meanwhile comes."""
    mine, key = tmp_path / "mine.crt", tmp_path / "mine.key"

    def take(name: str) -> None:
        mine.write_bytes(Path(pki.path(f"{name}.crt")).read_bytes())
        key.write_bytes(Path(pki.path(f"{name}.key")).read_bytes())

    with mosquitto.running(tmp_path / "broker", lines=lines(pki, "server")) as broker:
        rig = rig_with(broker, pki, str(mine))
        take("gw")
        await rig.open()
        await rig.close()
        take("gw-old")
        with pytest.raises(LinkDown, match="our certificate has expired"):
            await rig.link.run(rig.desk, rig.up.set)
        context = ssl.create_default_context(cafile=pki.path("ca.crt"))
        context.load_cert_chain(pki.path(f"{ISSI}.crt"), pki.path(f"{ISSI}.key"))
        async with aiomqtt.Client("127.0.0.1", broker.port, tls_context=context) as radio:
            await radio.publish(f"radio/{ISSI}/up/check", json.dumps(CHECK), qos=1)
        take("gw")
        await rig.open()
        await until(lambda: rig.desk.of(CheckRequest))
        await rig.close()


# --------------------------------------------------------------------------- M17


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Mosquitto, Callable[[str], None]]]:
    """A broker with a user `gw`, and what changes his password there."""
    users = tmp_path / "users"

    def change(password: str) -> None:
        subprocess.run(
            ["mosquitto_passwd", "-c", "-b", str(users), "gw", password],
            check=True,
            capture_output=True,
        )
        users.chmod(0o644)

    change("first")
    words = ("allow_anonymous false", f"password_file {users}")
    with mosquitto.running(tmp_path / "broker", lines=words) as broker:
        yield broker, change


async def test_a_password_changed_at_the_broker_is_not_hammered_and_the_new_one_is_taken_up(
    guarded: tuple[Mosquitto, Callable[[str], None]], tmp_path: Path
) -> None:
    """M17: refused, then nothing for half a minute, said once; the file is read at each attempt."""
    broker, change = guarded
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    rig = Rig(broker, username="gw", password_file=str(secret))
    clock, seen = FakeClock(), []
    attempts = 0

    async def run(up: Callable[[], None]) -> None:
        nonlocal attempts
        attempts += 1
        await rig.link.run(rig.desk, up)

    keeping = asyncio.ensure_future(
        keep(
            run,
            name="mqtt",
            clock=clock,
            ids=FakeIds(),
            journal=rig.journal,
            meter=rig.meter,
            seen=lambda state, reason: seen.append((state, reason)),
        )
    )
    try:
        await until(lambda: seen == [(LinkState.UP, "")])
        broker.kill()
        change("second")
        broker.start()
        await until(lambda: len(seen) == 2)  # the connection broke
        await clock.advance(1.0)
        await until(lambda: len(seen) == 3)
        state, reason = seen[2]
        assert (state, reason[:15]) == (LinkState.DOWN, "broker refused:")
        tried = attempts
        await clock.advance(REFUSED_S - 1)
        assert attempts == tried
        secret.write_text("second\n")
        await clock.advance(1.0)
        await until(lambda: seen[-1] == (LinkState.UP, ""))
        assert attempts == tried + 1
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
