"""Recordings of what links heard: for finding a field fault, and making a case of it."""

from adapters.recordings.container import (
    About,
    End,
    Heard,
    Item,
    Key,
    LinkAbout,
    Lost,
    Recording,
    RecordingUnreadable,
    make_key,
    opened,
    read_key,
)
from adapters.recordings.recorder import SUFFIX, Recorder

__all__ = [
    "SUFFIX",
    "About",
    "End",
    "Heard",
    "Item",
    "Key",
    "LinkAbout",
    "Lost",
    "Recorder",
    "Recording",
    "RecordingUnreadable",
    "make_key",
    "opened",
    "read_key",
]
