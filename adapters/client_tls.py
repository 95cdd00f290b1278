"""TLS towards a server that knows us by a certificate: verified always, and ours in its time.

Files are read anew for each connection, so that what was renewed is taken up by itself. What is
missing, unusable or out of its time means no connection (fail closed), said without its content: a
server would only close the connection, and nobody would know why (M15).
"""

from __future__ import annotations

import hashlib
import ssl
import time
from pathlib import Path

from gateway.errors import LinkDown
from gateway.rulebook import Section
from gateway.settings import resolve


def context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the server's name and chain verified; there is no way to turn that off.

    ca None: the system's. Blocks. Raises LinkDown(refused=True): nothing mends it but an operator.
    """
    try:
        made = ssl.create_default_context(cafile=str(ca) if ca else None)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert is not None:
            # An encrypted key fails; without a word here OpenSSL would ask for one on the terminal.
            made.load_cert_chain(str(cert), str(key) if key else None, password="")
            _must_be_in_its_time(cert)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise LinkDown("certificate file cannot be used", refused=True) from error
    return made


def fingerprint(config_path: Path, section: Section) -> str:
    """Changes when any file changes by which we, or the far side, are known. Blocks."""
    digest = hashlib.sha256()
    for field in section.__struct_fields__:
        if field.endswith("_file") and (name := getattr(section, field)):
            try:
                held = resolve(config_path, name).read_bytes()
            except OSError:
                held = b""
            digest.update(hashlib.sha256(held).digest())
    return digest.hexdigest()


def _must_be_in_its_time(path: Path) -> None:
    """Raises LinkDown when our certificate is not valid now."""
    from adapters.certificates import life  # loaded only where there are certificates

    since_ms, until_ms = life(path.read_bytes())
    now_ms = time.time() * 1000
    if now_ms >= until_ms:
        raise LinkDown("our certificate has expired", refused=True)
    if now_ms < since_ms:
        raise LinkDown("our certificate is not valid yet", refused=True)
