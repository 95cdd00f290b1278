"""The whole taxonomy on one screen, named by remedy. No message ever holds personal data."""

from __future__ import annotations


class GatewayError(Exception):
    """The family's one root."""


class ConfigError(GatewayError):
    """Mend the configuration: says file, key and reason. Exit 78."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


class LinkDown(GatewayError):
    """Wait and reopen: the port or connection is gone. reason: a short, bounded word."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused
        """The far side refused our credentials: back off long (30 s), do not hammer."""


TAKEN_OVER = "session taken over"
"""LinkDown.reason when somebody connected with our client id (MQTT 5 says so)."""


class SendFailed(GatewayError):
    """Keep it and try again when the terminal is heard: the bearer did not take the message."""


class PncError(GatewayError):
    """The PNC gave no usable answer. Never "no trace"."""

    result = "error"
    """Value of the metric label `result` (ops.md)."""
    retryable = False


class PncDown(PncError):
    """Retry inside the deadline: refused, reset, dropped, 429, 5xx, record lock."""

    result = "unavailable"
    retryable = True


class PncTimeout(PncError):
    """The adapter's own bound passed without a reply."""

    result = "timeout"


class PncGarbled(PncError):
    """A reply that cannot be trusted: malformed, truncated, oversize, wrong echo."""

    result = "error"

    def __init__(self, reason: str, fingerprint: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        """One of: malformed, truncated, oversize, echo, charset."""
        self.fingerprint = fingerprint
        """JSON: its length and SHA-256, for the record; nothing of what it said."""


class PncInvalid(PncError):
    """The PNC says the question is not valid (400 / I0001): refuse, say so, do not retry."""

    result = "invalid"


class PncUnauthorised(PncError):
    """Mend the credential (401, 403): the officer reads NO ANSWER, ops are told."""

    result = "error"


class LedgerError(GatewayError):
    """The audit trail cannot be written or read."""


class LedgerUnavailable(LedgerError):
    """Refuse and say so (fail closed): no record, no query, no disclosure."""


class LedgerFatal(LedgerError):
    """Stop the process: what was written may not be durable (EIO, deleted file). Exit non-zero."""


class FactorsBusy(GatewayError):
    """Too many factors are being checked: nothing was, come again."""


class LogInRefused(GatewayError):
    """Nobody is logged in. reason: one of a closed set, for log and record; never shown why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooSoon(GatewayError):
    """Not looked at: so many seconds must pass first."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("too soon")
        self.wait_s = wait_s


class AnchorFailed(GatewayError):
    """An anchor did not take a head, or cannot say which it has; its words name no person."""


class DuplicateCheck(LedgerError):
    """The same question is already on record: give the stored answer."""

    def __init__(self, check: str) -> None:
        super().__init__("duplicate")
        self.check = check


class DuplicateReceipt(LedgerError):
    """Another check has this receipt: draw another and commit again. Nothing was written."""


EXIT_CHAIN = 6
"""`audit verify` and `audit show` end with it on a ChainBroken (docs/operations.md)."""


class ChainBroken(LedgerError):
    """The chain does not verify: names log and sequence of the first bad record."""

    def __init__(self, log: str, seq: int, reason: str) -> None:
        super().__init__(f"{log}:{seq}: {reason}")
        self.log = log
        self.seq = seq
        self.reason = reason
