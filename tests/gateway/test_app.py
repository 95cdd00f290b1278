"""What the composition root itself decides: what goes on over a restart."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import links
from adapters.codecs.hush import JsonHush, LineHush, NothingToHush, PeiHush, hush_of
from gateway.app import (
    SystemClock,
    SystemIds,
    anchors_of,
    calm_collector,
    certificates_of,
    link_abouts,
    load,
)
from gateway.errors import ConfigError

SHORT_FORMS = 8 * 4096
RUNS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 50)), min_size=1, max_size=12)
"""Of each run: checks that were made, and records beyond the one that each check has at least."""


@given(st.integers(0, 10**9), RUNS)
def test_no_short_form_comes_twice_over_restarts(records: int, runs: list[tuple[int, int]]) -> None:
    """A radio drops what it has by (reference, part): a reference that another check had minutes
    ago would lose an answer."""
    seen: set[str] = set()
    for checks, more in runs:
        ids = SystemIds()
        ids.go_on_after(records)
        for _ in range(checks):
            short = ids.check()[-4:]
            assert short not in seen
            seen.add(short)
        records += checks + more


def test_short_forms_are_all_used_before_one_comes_again() -> None:
    ids = SystemIds()
    assert len({ids.check()[-4:] for _ in range(SHORT_FORMS)}) == SHORT_FORMS


def test_an_id_is_unique_and_sorts_by_time() -> None:
    ids = SystemIds()
    made = [ids.check() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert [each[:10] for each in made] == sorted(each[:10] for each in made)
    assert all(len(each) == 26 for each in made)


def test_the_collector_leaves_alone_what_stands_at_the_start() -> None:
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_the_counter_is_the_machines_and_does_not_tell_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over restarts, another on another machine, none where there is no id."""
    file = tmp_path / "machine-id"
    monkeypatch.setattr("gateway.app.MACHINE", file)
    assert SystemClock().counter == ""
    file.write_text("\n")
    assert SystemClock().counter == ""
    file.write_text("0123456789abcdef0123456789abcdef\n")
    first = SystemClock().counter
    assert first == SystemClock().counter != ""
    assert first not in file.read_text()
    file.write_text("f123456789abcdef0123456789abcdef\n")
    assert SystemClock().counter != first


CONFIG = Path(__file__).resolve().parents[2] / "config"


def configured(folder: Path, profile: str, anchors: str) -> Path:
    files = ("fleet", "areas", "policy", "warnings")
    names = "\n".join(f'{name} = "{CONFIG}/{name}.toml"' for name in files)
    people = (CONFIG / "people.toml").read_text("utf-8")
    # Whoever holds a radio says so there: production knows no standing bookings.
    (folder / "people.toml").write_text(people[: people.index("[[standing]]")], "utf-8")
    path = folder / "gateway.toml"
    path.write_text(
        f'[gateway]\nprofile = "{profile}"\nstate_dir = "var"\n{names}\n'
        f'people = "people.toml"\n[alarms]\nfile = "{CONFIG}/alarms.toml"\n'
        f'[pnc]\nrecords = "{CONFIG}/pnc"\n[audit]\nanchors = [{anchors}]\n'
        "[auth]\nallow_local_in_production = true\n"
    )
    return path


def test_a_name_in_a_protocol_that_nobody_speaks_is_told(tmp_path: Path) -> None:
    """Misspelt, it would be a unit that is never heard, and nobody would know why."""
    path = configured(tmp_path, "training", "")
    fleet = (CONFIG / "fleet.toml").read_text("utf-8")
    main = path.read_text().replace(f'"{CONFIG}/fleet.toml"', '"fleet.toml"')
    path.write_text(main)
    for protocol, finding in (("nmea0183", ""), ("nmae0183", "did you mean nmea0183? (line ")):
        names = f'issi = "5001001"\nnames = {{ {protocol} = "TRK1" }}'
        (tmp_path / "fleet.toml").write_text(fleet.replace('issi = "5001001"', names, 1), "utf-8")
        if not finding:
            load(path)
            continue
        with pytest.raises(ConfigError) as caught:
            load(path)
        (found,) = caught.value.findings
        assert found.startswith(f"fleet.toml: terminals[0].names.{protocol}: no such protocol; ")
        assert finding in found


def test_the_certificates_of_our_own_doors_are_watched(tmp_path: Path) -> None:
    """The page's and a tracker's listener run out as silently as any; without TLS there is none."""
    path = configured(tmp_path, "training", "")
    assert certificates_of(load(path)) == {}
    for name in ("page", "trackers"):
        for kind in ("cert", "key"):
            (tmp_path / f"{name}.{kind}").write_text("-")
    (tmp_path / "token").write_text("a" * 32)
    path.write_text(
        path.read_text()
        + "[http]\ncert_file = 'page.cert'\nkey_file = 'page.key'\n"
        + "[[osmand]]\nname = 'trackers'\ncert_file = 'trackers.cert'\n"
        + "key_file = 'trackers.key'\ntoken_file = 'token'\n"
    )
    named = {name: file.name for name, file in certificates_of(load(path)).items()}
    assert named == {"page": "page.cert", "trackers": "trackers.cert"}


def test_every_kind_of_link_can_be_recorded_without_factors(tmp_path: Path) -> None:
    """What a recording calls its codec is what the hush knows: by another name a PIN would stay."""
    path = configured(tmp_path, "training", "")
    with path.open("a") as file:
        for table, more in (
            ("serial", 'port = "/dev/a"\nterminal = "5001001"'),
            ("mqtt", ""),
            ("tetra", 'port = "/dev/b"'),
            ("gpsd", 'terminal = "5001001"'),
            ("owntracks", ""),
            ("osmand", ""),
        ):
            file.write(f'[[{table}]]\nname = "{table}"\n{more}\n')
    config = load(path)
    abouts = link_abouts(config, [each.name for each in config.settings.links])
    assert {type(each) for each in config.settings.links} == set(links.REGISTRY)
    found = {each.kind: hush_of(each.codec) for each in abouts}
    assert found["serial"] is LineHush
    assert found["mqtt"] is JsonHush
    assert found["tetra"] is PeiHush
    assert {found[each] for each in ("gpsd", "owntracks", "osmand")} == {NothingToHush}


def test_production_needs_an_anchor_off_this_disk(tmp_path: Path) -> None:
    """Heads that are lost with the ledger prove nothing; training may do without."""
    here = f'{{ kind = "file", path = "{tmp_path}/heads.jsonl" }}'
    there = '{ kind = "file", path = "/dev/shm/heads.jsonl" }'
    with pytest.raises(ConfigError) as caught:
        load(configured(tmp_path, "production", ""))
    assert "audit.anchors: profile production needs one" in caught.value.findings[0]
    with pytest.raises(ConfigError) as caught:
        anchors_of(load(configured(tmp_path, "production", here)))
    assert "audit.anchors[0].path: on the same file system" in caught.value.findings[0]
    assert [each.name for each in anchors_of(load(configured(tmp_path, "production", there)))] == [
        "file"
    ]
    both = load(configured(tmp_path, "training", f"{here}, {there}"))
    assert [each.name for each in anchors_of(both)] == ["file", "file-2"]
    assert anchors_of(load(configured(tmp_path, "training", ""))) == []


@pytest.mark.parametrize(
    ("anchor", "finding"),
    [
        ('{ kind = "tape" }', "audit.anchors[0].kind: one of file, syslog, http"),
        ('{ kind = "file" }', "audit.anchors[0].path: needed by file"),
        ('{ kind = "file", path = "x", url = "y" }', "audit.anchors[0].url: not used by file"),
        ('{ kind = "syslog", address = "logs" }', "audit.anchors[0].address: udp://"),
        ('{ kind = "http", url = "http://a.example/x" }', "audit.anchors[0].url: https://"),
    ],
)
def test_an_anchor_that_cannot_be_is_named(tmp_path: Path, anchor: str, finding: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(configured(tmp_path, "training", anchor))
    assert any(finding in each for each in caught.value.findings), caught.value.findings


@pytest.mark.parametrize(("codec", "good"), [("nmea0183", True), ("lip", False), ("x", False)])
def test_a_line_speaks_what_comes_in_slices(tmp_path: Path, codec: str, good: bool) -> None:
    """One datagram at a time is not what a line gives: the gateway would be deaf on it."""
    path = configured(tmp_path, "training", "")
    line = f'[[serial]]\nname = "a"\nport = "/x"\nterminal = "5001001"\ncodec = "{codec}"\n'
    path.write_text(path.read_text("utf-8") + line, "utf-8")
    if good:
        assert load(path).settings.serial[0].codec == codec
        return
    with pytest.raises(ConfigError, match="serial a: codec: one of"):
        load(path)


@pytest.mark.parametrize(("dialect", "good"), [("sepura", True), ("esperanto", False)])
def test_a_radio_is_spoken_to_in_a_dialect_that_there_is(
    tmp_path: Path, dialect: str, good: bool
) -> None:
    path = configured(tmp_path, "training", "")
    radio = f'[[tetra]]\nname = "a"\nport = "/x"\ndialect = "{dialect}"\n'
    path.write_text(path.read_text("utf-8") + radio, "utf-8")
    if good:
        assert load(path).settings.tetra[0].dialect == dialect
        return
    with pytest.raises(ConfigError, match="tetra a: dialect: one of"):
        load(path)
