"""The token of the command line: for one user, one run, and whoever may read the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters import host_token
from gateway.errors import LedgerUnavailable


def test_it_is_new_each_time_and_for_us_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = host_token.make(tmp_path)
    finally:
        os.umask(before)
    path = tmp_path / host_token.NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert host_token.read(tmp_path) == first
    assert len(first.reveal()) >= 43
    second = host_token.make(tmp_path)
    assert second != first
    assert host_token.read(tmp_path) == second
    assert [each.name for each in tmp_path.iterdir()] == [host_token.NAME]


def test_without_a_daemon_there_is_none(tmp_path: Path) -> None:
    assert host_token.read(tmp_path) is None
    host_token.make(tmp_path)
    host_token.drop(tmp_path)
    host_token.drop(tmp_path)
    assert host_token.read(tmp_path) is None


def test_what_is_not_for_us_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / host_token.NAME).mkdir()
    with pytest.raises(LedgerUnavailable, match=r"host\.token: cannot be read"):
        host_token.read(tmp_path)
