"""The control room's page, API and event stream over HTTP."""

from adapters.web.asking import tell_export
from adapters.web.board import Board
from adapters.web.server import WebServer

__all__ = ["Board", "WebServer", "tell_export"]
