"""The words that the authority and its command line share."""

from __future__ import annotations

CA_DAYS = 365.0
MOST_DAYS = 30.0
"""The longest life of a certificate."""
BROKER = "broker"
GATEWAY = "gateway"
"""In a command it stands for each of the gateway's connections."""
CLIENT_ID = "radio-gateway"
SESSIONS = ("", "-status", "-feed")
"""The gateway's connections; where the user name is the client id each needs a name of its own."""


class PkiError(Exception):
    """What is wrong, in a line for whoever typed the command."""
