"""Who we are to a broker, and how we know it: passwords and certificates, always from files.

Read anew for each connection, so that one that was renewed is taken up by itself. One that is
missing, empty, unusable or out of its time means no connection (fail closed), said without its
value: a broker would only close the connection, and nobody would know why (M15).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from adapters import client_tls
from gateway.errors import LinkDown
from gateway.settings import BrokerSection, MqttSection, resolve

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


def read(config_path: Path, section: MqttSection, access: Access) -> Credentials:
    """Read all files; blocks. Raises LinkDown(refused=True): nothing mends it but an operator."""
    if access.cert_file and not section.tls:
        # Else we would come without the certificate that was meant to prove who we are.
        raise LinkDown("client certificate without TLS", refused=True)
    try:
        password = _secret(resolve(config_path, access.password_file), access)
    except (OSError, UnicodeDecodeError) as error:
        raise LinkDown("password file cannot be read", refused=True) from error
    tls = None
    if section.tls:
        ca, cert, key = (
            resolve(config_path, file) if file else None
            for file in (section.ca_file, access.cert_file, access.key_file)
        )
        tls = client_tls.context(ca, cert, key)
    return Credentials(username=access.username or None, password=password, tls=tls)


def files(config_path: Path, section: MqttSection) -> dict[str, Path]:
    """Every certificate that this broker's connections use, by its name in the metric `cert`."""
    if not section.tls:
        return {}
    first = section.cert_file
    named = {section.name: first, f"{section.name}-ca": section.ca_file}
    if isinstance(section, BrokerSection):
        named[f"{section.name}-status"] = section.status_cert_file or first
        named[f"{section.name}-feed"] = (section.feed_cert_file or first) if section.feed else ""
    return {name: resolve(config_path, file) for name, file in named.items() if file}


def _secret(path: Path, access: Access) -> str | None:
    if not access.password_file:
        return None
    with path.open("rb") as file:
        secret = file.read(SECRET_MOST + 1).decode("utf-8").rstrip("\r\n")
    if not secret or len(secret) > SECRET_MOST:
        raise LinkDown("password file is empty or too long", refused=True)
    return secret
