"""From when and until when a certificate holds: for links, and for the watch over all of them."""

from __future__ import annotations

from cryptography import x509


def life(pem: bytes) -> tuple[int, int]:
    """Of the first certificate in this text, ms since the epoch. Raises ValueError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except x509.InvalidVersion as error:
        raise ValueError("no such version of a certificate") from error
    return (
        round(certificate.not_valid_before_utc.timestamp() * 1000),
        round(certificate.not_valid_after_utc.timestamp() * 1000),
    )
