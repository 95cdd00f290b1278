"""The control room's page, API and event stream over HTTP."""

from adapters.web.asking import tell_export
from adapters.web.board import Board
from adapters.web.log_ins import LogIns
from adapters.web.server import WebServer

__all__ = ["Board", "LogIns", "WebServer", "tell_export"]
