"""The control room's page, API and event stream over HTTP."""

from adapters.web.asking import tell_export
from adapters.web.board import Board
from adapters.web.log_ins import LogIns
from adapters.web.server import WebServer
from adapters.web.tls import Certificate

__all__ = ["Board", "Certificate", "LogIns", "WebServer", "tell_export"]
