"""Places off this host that keep the audit's heads: a file on another mount, a syslog, HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.ports import Anchor
from gateway.settings import AnchorSection, resolve


def create(sections: Sequence[AnchorSection], *, config_path: Path, instance: str) -> list[Anchor]:
    """One for each section, named by its kind; a further one of a kind by a number, too."""
    found: list[Anchor] = []
    for section in sections:
        before = sum(each.name.split("-")[0] == section.kind for each in found)
        name = f"{section.kind}-{before + 1}" if before else section.kind
        found.append(_create(section, name, config_path, instance))
    return found


def _create(section: AnchorSection, name: str, config_path: Path, instance: str) -> Anchor:
    ca_file = resolve(config_path, section.ca_file) if section.ca_file else None
    if section.kind == "file":
        from adapters.anchors.file import FileAnchor

        return FileAnchor(name, resolve(config_path, section.path))
    if section.kind == "syslog":
        from adapters.anchors.syslog import SyslogAnchor

        return SyslogAnchor(name, section.address, instance=instance, ca_file=ca_file)
    from adapters.anchors.http import HttpAnchor

    token_file = resolve(config_path, section.token_file) if section.token_file else None
    return HttpAnchor(name, section.url, ca_file=ca_file, token_file=token_file)


def on_this_disk(path: Path, state_dir: Path) -> bool:
    """Whether a file would lie on the file system that the ledger is on: it would go with it."""
    return _standing(path).stat().st_dev == _standing(state_dir).stat().st_dev


def _standing(path: Path) -> Path:
    """The nearest folder above that is there."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())
