"""Who we are to a broker, and how we know it: passwords and certificates, always from files.

Read anew for each connection, so that one that was renewed is taken up by itself. One that is
missing, empty, unusable or out of its time means no connection (fail closed), said without its
value: a broker would only close the connection, and nobody would know why (M15).
"""

from __future__ import annotations

import hashlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import LinkDown
from gateway.settings import BrokerSection, resolve

SECRET_MOST = 4096
"""Bytes of a password file: what is longer is some other file."""


@dataclass(frozen=True)
class Access:
    """Client id, and paths of the files (relative to the configuration's folder)."""

    client_id: str
    username: str = ""
    password_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True)
class Credentials:
    """What the files held when they were read. Never logged: the password is not in its repr."""

    username: str | None
    password: str | None
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return "Credentials(...)"


def read(config_path: Path, section: BrokerSection, access: Access) -> Credentials:
    """Read all files; blocks. Raises LinkDown(refused=True): nothing mends it but an operator."""
    if access.cert_file and not section.tls:
        # Else we would come without the certificate that was meant to prove who we are.
        raise LinkDown("client certificate without TLS", refused=True)
    try:
        password = _secret(resolve(config_path, access.password_file), access)
    except (OSError, UnicodeDecodeError) as error:
        raise LinkDown("password file cannot be read", refused=True) from error
    try:
        tls = _context(config_path, section, access) if section.tls else None
        if access.cert_file:
            _must_be_in_its_time(resolve(config_path, access.cert_file))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise LinkDown("certificate file cannot be used", refused=True) from error
    return Credentials(username=access.username or None, password=password, tls=tls)


def files(config_path: Path, section: BrokerSection) -> dict[str, Path]:
    """Every certificate that this broker's connections use, by its name in the metric `cert`."""
    if not section.tls:
        return {}
    first = section.cert_file
    named = {
        section.name: first,
        f"{section.name}-status": section.status_cert_file or first,
        f"{section.name}-feed": (section.feed_cert_file or first) if section.feed else "",
        f"{section.name}-ca": section.ca_file,
    }
    return {name: resolve(config_path, file) for name, file in named.items() if file}


def fingerprint(config_path: Path, section: BrokerSection) -> str:
    """Changes when any file changes by which we, or the broker, are known. Blocks."""
    digest = hashlib.sha256()
    for field in section.__struct_fields__:
        if field.endswith("_file") and (name := getattr(section, field)):
            try:
                held = resolve(config_path, name).read_bytes()
            except OSError:
                held = b""
            digest.update(hashlib.sha256(held).digest())
    return digest.hexdigest()


def _secret(path: Path, access: Access) -> str | None:
    if not access.password_file:
        return None
    with path.open("rb") as file:
        secret = file.read(SECRET_MOST + 1).decode("utf-8").rstrip("\r\n")
    if not secret or len(secret) > SECRET_MOST:
        raise LinkDown("password file is empty or too long", refused=True)
    return secret


def _context(config_path: Path, section: BrokerSection, access: Access) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's name and chain verified; there is no way to turn that off."""
    ca = str(resolve(config_path, section.ca_file)) if section.ca_file else None
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.cert_file:
        key = str(resolve(config_path, access.key_file)) if access.key_file else None
        # An encrypted key fails; without a word here OpenSSL would ask for one on the terminal.
        context.load_cert_chain(str(resolve(config_path, access.cert_file)), key, password="")
    return context


# --------------------------------------------------------------------------- how long it is valid


def _must_be_in_its_time(path: Path) -> None:
    """Raises LinkDown when our certificate is not valid now."""
    from adapters.certificates import life  # loaded only where there are certificates

    since_ms, until_ms = life(path.read_bytes())
    now_ms = time.time() * 1000
    if now_ms >= until_ms:
        raise LinkDown("our certificate has expired", refused=True)
    if now_ms < since_ms:
        raise LinkDown("our certificate is not valid yet", refused=True)
