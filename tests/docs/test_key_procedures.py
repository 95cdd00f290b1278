"""The procedures of operations.md for the key that signs heads, done as they are written: a change,
a loss, and a key that somebody else may have.

What is done here stands there, word for word: who changes the page finds out here.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from adapters.ledger import signing
from adapters.ledger.heads import Head, all_heads
from gateway.app import load
from gateway.cli import main
from gateway.ports import Record
from tests.adapters.ledger.books import ROOT, opened
from tests.chain import audit
from tests.fakes import FakeJournal, settle
from tests.gateway.test_settings import Folder

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
CODE = re.compile(r"`([^`]+)`")


def told(begins: str) -> str:
    """The paragraph, with its list, that begins like this; on one line."""
    found = re.search(rf"\*\*{re.escape(begins)}.*?(?=\n\n\*\*|\n\n## )", PAGE, re.DOTALL)
    assert found is not None, f"operations.md has nothing that begins with {begins}"
    return " ".join(found[0].split())


async def written(
    state: Path, instance: str, name: str, heads: list[bytes], journal: FakeJournal
) -> None:
    store = await opened(state, instance=instance, headed=heads.append, journal=journal)
    for n in range(3):
        await store.commit([Record(event="opened", at_ms=n, check=f"{name}{n}", content=b"x")])
    await store.close()
    await settle()


class Site:
    """A gateway with an anchor elsewhere and an auditor who has the public keys."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "etc").mkdir()
        here = Folder(folder / "etc")
        self.anchor, self.keys = folder / "mount" / "heads.jsonl", folder / "auditor"
        self.anchor.parent.mkdir()
        self.keys.mkdir()
        here.write(f'[[audit.anchors]]\nkind = "file"\npath = "{self.anchor}"\n')
        self.config, self.state = here.main, here.path / "var"
        self.instance = load(here.main).settings.gateway.instance
        self._capsys = capsys
        self.journal = FakeJournal()
        self._anchored: list[bytes] = []

    def life(self, *, anchored: bool = True) -> None:
        """A start, some records, a stop. The heads go to the anchor."""
        self.journal = FakeJournal()
        heads: list[bytes] = []
        asyncio.run(written(self.state, self.instance, "C", heads, self.journal))
        if anchored:
            with self.anchor.open("ab") as file:
                # What it has already is not written again (adapters/anchors/file.py).
                file.writelines(head + b"\n" for head in heads if head not in self._anchored)
            self._anchored += heads

    def command(self, words: str) -> tuple[int, str]:
        """As the page has it: `radio-gateway ...`, with FILE for the configuration."""
        program, *rest = words.split()
        assert program == "radio-gateway"
        code = main([str(self.config) if word == "FILE" else word for word in rest])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def verify(self, *more: str) -> tuple[int, str]:
        return self.command(" ".join(["radio-gateway audit verify --config FILE", *more]))

    def give_public_keys(self) -> None:
        for path in self.state.glob("audit-*.pub"):
            shutil.copy(path, self.keys)

    def private(self) -> list[str]:
        return sorted(path.name for path in self.state.glob("audit-*.key*"))

    def heads(self) -> list[Head]:
        return all_heads(self.state / "heads.jsonl")


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def test_a_key_is_changed(site: Site) -> None:
    page = told("Change the key")
    site.life()
    old = site.heads()[-1].key
    # 1.
    [command] = [word for word in CODE.findall(page) if word.startswith("radio-gateway")]
    code, said = site.command(command)
    assert code == 0, said
    new = said.split(":")[0]
    assert "It lies as `audit-ID.key.new`" in page
    assert set(site.private()) == {f"audit-{old}.key", f"audit-{new}.key.new"}
    assert (
        f"{new}: takes over at the next start"
        in site.command(command.replace(" new ", " list "))[1]
    )
    # 2.
    site.life()
    assert "Its first head is signed by both keys" in page
    first = next(head for head in site.heads() if head.key == new)
    keys = signing.read_public([site.state])
    assert signing.signed(keys, new, first.message(), first.sig)
    assert (first.rotates, signing.signed(keys, old, first.message(), first.old_sig)) == (old, True)
    assert "the change is on record (`alteration`, operation `audit.key`)" in page
    [changed] = [leaf for leaf in audit(site.state) if leaf["operation"] == "audit.key"]
    assert (changed["event"], changed["verb"]) == ("alteration", "alteration")
    assert "the log says `ledger.key`" in page
    assert "ledger.key" in [event for event, _ in site.journal.lines]
    assert "the old private key is destroyed" in page
    assert site.private() == [f"audit-{new}.key"]
    # 3.
    assert "Give `audit-ID.pub` to the auditors" in page
    assert "Keep the old ones" in page
    site.give_public_keys()
    code, said = site.verify("--keys", str(site.keys))
    assert code == 0, said
    (site.keys / f"audit-{old}.pub").unlink()
    code, said = site.verify("--keys", str(site.keys))
    assert (code, f"signed by {old}, a key that is not known" in said) == (6, True)


def test_a_key_is_lost(site: Site) -> None:
    page = told("A key that is lost")
    site.life()
    old = site.heads()[-1].key
    key = site.state / f"audit-{old}.key"
    key.write_text("what a bad block left of it")
    # Until it is seen to.
    assert "`ledger.unavailable`, stage `key`" in page
    assert "until then no head is signed, and checks go on being recorded" in page
    site.life()
    assert ("ledger.unavailable", "key") in [
        (event, fields.get("stage")) for event, fields in site.journal.lines
    ]
    assert len(site.heads()) == 1
    assert len(audit(site.state)) == 6
    # As it is told.
    assert "move away what is left of it and restart" in page
    key.rename(key.with_name("left-of-the-key"))
    site.life()
    first = site.heads()[1]
    assert "its first head says which was lost, and so does the record" in page
    assert (first.lost, first.key != old) == (old, True)
    [changed] = [leaf for leaf in audit(site.state) if leaf["operation"] == "audit.key"]
    assert changed["detail"] == f"lost {old}, now {first.key}"
    assert "and `audit verify` (`KEY LOST`)" in page
    assert "Heads before it stay valid by the old public key" in page
    site.give_public_keys()
    code, said = site.verify("--keys", str(site.keys))
    assert (code, f"KEY LOST, as is on record: {old}" in said) == (0, True)


def test_a_key_that_somebody_else_may_have(site: Site, tmp_path: Path) -> None:
    """A thief writes the past anew and signs it: only what had left the host tells."""
    page = told("A key that somebody else may have")
    site.life()
    site.life(anchored=False)  # the anchor is away
    old = site.heads()[-1].key
    thief = tmp_path / "thief"
    thief.mkdir()
    shutil.copy(site.state / f"audit-{old}.key", thief)
    stolen = signing.read_key(thief / f"audit-{old}.key")
    trusted = json.loads(site.anchor.read_bytes().splitlines()[-1])["seq"]

    # All of it anew, with heads that the key signed: by itself it verifies.
    for _ in range(2):
        asyncio.run(written(thief, site.instance, "FORGED", [], FakeJournal()))
    away = site.anchor.rename(tmp_path / "away.jsonl")
    genuine = shutil.copytree(site.state, tmp_path / "genuine")
    for name in ("ledger.db", "heads.jsonl", "heads.frontier"):
        shutil.copy(thief / name, site.state / name)
    assert site.verify()[0] == 0
    # "... compare with every anchor (`audit verify` does)"
    assert "compare `heads.jsonl` with every anchor (`audit verify` does)" in page
    away.rename(site.anchor)
    code, said = site.verify()
    assert (code, f"bad within 1..{trusted}" in said) == (6, True), said

    # What was kept is put back, and the key changed at once.
    shutil.rmtree(site.state)
    shutil.copytree(genuine, site.state)
    assert "change it at once as above" in page
    assert site.command("radio-gateway audit key new --config FILE")[0] == 0
    site.life()
    new = site.heads()[-1].key
    code, said = site.verify()
    assert code == 0, said
    # "From the new key's first head on all is well again": the stolen one signs nothing more.
    assert "From the new key's first head on all is well again" in page
    last = site.heads()[-1]
    made = Head(**{**_members(last), "key": old, "prev": last.digest(), "sig": "", "at_ms": 9})
    made = Head(**{**_members(made), "sig": stolen.sign(made.message())})
    with (site.state / "heads.jsonl").open("ab") as file:
        file.write(made.line() + b"\n")
    code, said = site.verify()
    assert (code, "another key, and no word of the one before" in said) == (6, True), said
    assert new != old


def _members(head: Head) -> dict[str, object]:
    return {name: getattr(head, name) for name in head.__struct_fields__}
