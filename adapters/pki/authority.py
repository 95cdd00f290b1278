"""A development CA: certificates for the broker, the gateway, readers and terminals, in one folder.

Not a force's CA: its key lies unencrypted beside what it signs. It is for trying and testing the
broker as it is meant to run, with everything that makes that run safely.

Rules of this module
1. A terminal's name is its ISSI, `^[0-9]{1,8}$`, because the broker makes it a part of topics: a
   name with `+`, `#` or `/` in it would be a wildcard (mosquitto, CVE-2017-7650).
2. Nothing is overwritten silently. `renew` makes a new certificate for the key that is there, so
   that a renewal is one rename: key and certificate never disagree, whoever reads them when.
3. Keys are ECDSA P-256, mode 0600 from their first byte. Lives are short: at most MOST_DAYS.
4. A revocation list stands from the start and is valid as long as the CA: one that runs out would
   lock everybody out.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adapters.pki.words import BROKER, CA_DAYS, GATEWAY, MOST_DAYS, PkiError

TERMINAL_DAYS = 7.0
SERVICE_DAYS = 30.0
LEEWAY = timedelta(minutes=5)
"""A certificate holds from a little before it was made: clocks differ."""
TERMINAL = re.compile(r"[0-9]{1,8}")
READER = re.compile(r"[a-z][a-z0-9-]{0,30}")
CA_NAME = "radio-gateway development CA"


class Issued(msgspec.Struct, frozen=True):
    """One certificate that was ever made here. serial: hexadecimal."""

    serial: str
    name: str
    not_after: str
    revoked_at: str = ""


def _now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The folder: ca.crt, ca.key, crl.pem, index.json, and NAME.crt, NAME.key of each name.

    Whoever changes it holds `.lock`; each file is replaced whole.
    """

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = _now) -> None:
        self.folder = folder
        self._now = now

    # ----------------------------------------------------------------- making it

    def init(self, days: float = CA_DAYS) -> None:
        """A new CA in a new or empty folder. Raises PkiError."""
        if not 1 <= days <= 3650:
            raise PkiError(f"--days: a CA lives 1 to 3650 days, not {days:g}")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        with self._locked():
            if any(self._path(name).exists() for name in ("ca.crt", "ca.key", "index.json")):
                raise PkiError(f"{self.folder}: holds a CA already; nothing was changed")
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name(CA_NAME)
            made = self._now()
            certificate = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(name)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(made - LEEWAY)
                .not_valid_after(made + timedelta(days=days))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(ca=True), critical=True)
                .add_extension(
                    x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
                )
                .sign(key, hashes.SHA256())
            )
            self._put("ca.key", _pem_of(key), 0o600)
            self._put("ca.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
            self._keep([])

    def issue(self, name: str, *, days: float | None = None, hosts: Sequence[str] = ()) -> Issued:
        """A key and a certificate for a name that has none. Raises PkiError.

        `broker` may serve, under these hosts; every other name may only be a client.
        """
        check(name)
        if name == BROKER and not hosts:
            raise PkiError("broker: needs --host, the name or address by which it is reached")
        if name != BROKER and hosts:
            raise PkiError(f"{name}: --host is for the broker alone")
        with self._locked():
            for file in (f"{name}.key", f"{name}.crt"):
                if self._path(file).exists():
                    raise PkiError(
                        f"{self._path(file)}: is there already; `pki renew` makes a new "
                        "certificate for its key, `pki revoke` takes it back"
                    )
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = self._certify(name, key.public_key(), days, _alternative(name, hosts))
            self._put(f"{name}.key", _pem_of(key), 0o600)
            return self._publish(name, certificate)

    def renew(self, name: str, *, days: float | None = None) -> Issued:
        """A new certificate for the key that is there, in one rename. The old one holds until its
        end. Raises PkiError."""
        check(name)
        with self._locked():
            old = self._certificate(name)
            if any(each.revoked_at for each in self._index() if each.serial == _hex(old)):
                raise PkiError(f"{name}: was revoked; `pki issue` makes a new key")
            key = self._key(name)
            if key.public_key() != old.public_key():
                raise PkiError(f"{self._path(name)}.key: is not the key of its certificate")
            hosts = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            certificate = self._certify(name, key.public_key(), days, hosts)
            return self._publish(name, certificate)

    def revoke(self, name: str) -> list[Issued]:
        """Every certificate of this name that still holds; its files go, so that a new one can be
        issued. Returns those that were revoked. Raises PkiError."""
        check(name)
        with self._locked():
            now = self._now()
            index = self._index()
            live = [
                each
                for each in index
                if each.name == name and not each.revoked_at and _moment(each.not_after) > now
            ]
            if not live:
                raise PkiError(f"{name}: has no certificate that holds")
            said = now.isoformat(timespec="seconds")
            gone = [msgspec.structs.replace(each, revoked_at=said) for each in live]
            serials = {each.serial for each in gone}
            self._keep([*(each for each in index if each.serial not in serials), *gone])
            for file in (f"{name}.crt", f"{name}.key"):
                self._path(file).unlink(missing_ok=True)
            return gone

    def show(self) -> list[Issued]:
        """Every certificate that was made here, oldest first. Raises PkiError."""
        return self._index()

    def state(self, issued: Issued) -> str:
        """`good`, `revoked` or `expired`, now."""
        if issued.revoked_at:
            return "revoked"
        return "good" if _moment(issued.not_after) > self._now() else "expired"

    # ----------------------------------------------------------------- certificates

    def _certify(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        days: float | None,
        alternative: x509.SubjectAlternativeName,
    ) -> x509.Certificate:
        usual = TERMINAL_DAYS if TERMINAL.fullmatch(name) else SERVICE_DAYS
        lives = usual if days is None else days
        if not 0 < lives <= MOST_DAYS:
            raise PkiError(f"--days: more than 0 and at most {MOST_DAYS:g}, not {lives:g}")
        authority = x509.load_pem_x509_certificate(self._read("ca.crt"))
        made = self._now()
        ends = min(made + timedelta(days=lives), authority.not_valid_after_utc)
        if ends <= made:
            raise PkiError(f"{self._path('ca.crt')}: has expired; a new CA needs a new folder")
        purpose = (
            ExtendedKeyUsageOID.SERVER_AUTH if name == BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        signer = self._key("ca")
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(authority.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(made - LEEWAY)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(alternative, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )

    def _publish(self, name: str, certificate: x509.Certificate) -> Issued:
        """Into the index first: what is not there could not be revoked."""
        issued = Issued(
            serial=_hex(certificate),
            name=name,
            not_after=certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        )
        self._keep([*self._index(), issued])
        self._put(f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return issued

    def _certificate(self, name: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._read(f"{name}.crt"))
        except ValueError as error:
            raise PkiError(f"{self._path(name)}.crt: is no certificate") from error

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self._read(f"{name}.key"), password=None)
        except (ValueError, TypeError) as error:
            raise PkiError(f"{self._path(name)}.key: is no key without a pass phrase") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PkiError(f"{self._path(name)}.key: is no ECDSA key")
        return key

    # ----------------------------------------------------------------- files

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            hint = "; `pki init` makes a CA" if name.startswith("ca.") else ""
            raise PkiError(f"{path}: is not there{hint}") from error

    def _put(self, name: str, data: bytes, mode: int) -> None:
        """The whole file or the old one, never a part; its mode from the first byte."""
        path = self._path(name)
        beside = path.with_name(f".{name}.new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the umask may have taken more
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)

    def _index(self) -> list[Issued]:
        try:
            return msgspec.json.decode(self._read("index.json"), type=list[Issued])
        except msgspec.DecodeError as error:
            raise PkiError(f"{self._path('index.json')}: cannot be read: {error}") from error

    def _keep(self, index: list[Issued]) -> None:
        """The index and the revocation list that follows from it."""
        self._put("index.json", msgspec.json.format(msgspec.json.encode(index)), 0o600)
        authority = x509.load_pem_x509_certificate(self._read("ca.crt"))
        revocations = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(self._now() - LEEWAY)
            .next_update(authority.not_valid_after_utc)
            .add_extension(x509.CRLNumber(len(index)), critical=False)
        )
        for each in index:
            if each.revoked_at:
                revocations = revocations.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(int(each.serial, 16))
                    .revocation_date(_moment(each.revoked_at))
                    .build()
                )
        signed = revocations.sign(self._key("ca"), hashes.SHA256())
        self._put("crl.pem", signed.public_bytes(serialization.Encoding.PEM), 0o644)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands at once would lose one's line of the index."""
        try:
            descriptor = os.open(self._path(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError as error:
            raise PkiError(f"{self.folder}: is not there; `pki init` makes it") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def check(name: str) -> None:
    """One identity of the broker, and one file name: nothing that is more than that."""
    if TERMINAL.fullmatch(name):
        return
    if READER.fullmatch(name) and name not in {"ca", "crl", "index", GATEWAY}:
        return
    raise PkiError(
        f"{name!a}: no name; a terminal is its ISSI, 1 to 8 digits; else `broker`, `gateway`, or "
        "a-z, 0-9 and `-`"
    )


def _alternative(name: str, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    if name != BROKER:
        kind = "terminal" if TERMINAL.fullmatch(name) else "service"
        address = x509.UniformResourceIdentifier(f"radio-gateway:{kind}:{name}")
        return x509.SubjectAlternativeName([address])
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", host):
                raise PkiError(f"--host {host!a}: neither a name nor an address") from None
            found.append(x509.DNSName(host))
    return x509.SubjectAlternativeName(found)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _hex(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
