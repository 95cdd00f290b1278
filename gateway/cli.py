"""The command line: reads the arguments, calls one function, turns its end into an exit code.

Exit codes (design ops.md 6): 0 ok or answered, 1 failed, 4 no answer, 5 refused, 6 audit chain
broken, 64 usage, 78 configuration. Data goes to stdout, talk to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from adapters import last_words
from gateway import __version__
from gateway.errors import EXIT_CHAIN, ChainBroken, ConfigError, LedgerError

if TYPE_CHECKING:
    from adapters.recordings import Recording

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_CONFIG = 78

DAEMONS = frozenset(
    {"run", "account", "audit", "check-config", "factor", "policy", "record-key", "replay"}
)
"""Commands that have nothing to do with simulators."""

ROLES = ("operator", "supervisor", "auditor", "ops")
"""Of gateway.rulebook, which would load what no other command needs."""

PURPOSES = ("lawfulness", "self-monitoring", "integrity-security", "criminal-proceedings")
"""The four purposes for which logs may be used: Data Protection Act 2018, section 62(4)."""


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line ends with 64 (EX_USAGE)."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        sys.stderr.write(f"{self.prog}: {message}\n")
        raise SystemExit(EXIT_USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `radio-gateway` and of `python -m gateway`."""
    if argv is None:  # this process is ours, from beginning to end
        last_words.speak_plainly()
        last_words.leave_no_image()
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words[0] if words else "").parse_args(words)
    try:
        return int(arguments.call(arguments))
    except ConfigError as error:
        for finding in error.findings:
            sys.stderr.write(f"{finding}\n")
        sys.stderr.write("configuration refused; nothing was started\n")
        return EXIT_CONFIG
    except LedgerError as error:
        sys.stderr.write(f"ledger: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_OK
    except BrokenPipeError:
        # `radio-gateway audit export | head`: the reader has enough. Keep Python's own flush at
        # exit from complaining about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _parser(asked: str = "") -> argparse.ArgumentParser:
    """asked: the command that is wanted. The simulators' options are read from the simulators,
    which the daemon must not wait for: it starts anew after a crash."""
    parser = _Parser(
        prog="radio-gateway",
        description="Bridges officers' radio data terminals to a mocked PNC. Synthetic data only.",
        epilog="examples:\n  radio-gateway demo\n  radio-gateway run --config config/gateway.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"radio-gateway {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_run(commands)
    _add_demo(commands)
    if asked not in DAEMONS:
        _add_terminal(commands)
        _add_simulate(commands)
    _add_check_config(commands)
    _add_factor(commands)
    _add_policy(commands)
    _add_record_key(commands)
    _add_replay(commands)
    _add_account(commands)
    _add_audit(commands)
    _add_pki(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="the daemon in the foreground",
        description="The daemon in the foreground. SIGTERM drains (at most 5 s) and ends with 0; "
        "SIGHUP checks the whole configuration first, then applies it or keeps the old one.",
        epilog="examples:\n  radio-gateway run --config config/gateway.toml\n"
        "  radio-gateway run --config /etc/radio-gateway/gateway.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--config", type=Path, required=True, metavar="FILE")
    run.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    from gateway.app import run_daemon

    return run_daemon(arguments.config)


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="the whole system in one command, without hardware",
        epilog="examples:\n  radio-gateway demo\n  radio-gateway demo --duration 30 --seed 7",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--http-port", type=int, default=None, metavar="N")
    demo.add_argument("--seed", type=int, default=1, metavar="N")
    demo.add_argument("--scenario", default="demo", metavar="NAME")
    demo.add_argument("--duration", type=float, default=None, metavar="S", help="seconds")
    demo.set_defaults(call=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from gateway.demo import demo

    return asyncio.run(
        demo(
            http_port=arguments.http_port,
            seed=arguments.seed,
            scenario=arguments.scenario,
            duration_s=arguments.duration,
            out=sys.stdout,
        )
    )


def _add_check_config(commands: argparse._SubParsersAction[_Parser]) -> None:
    check = commands.add_parser(
        "check-config",
        help="say everything that is wrong with a configuration",
        epilog="examples:\n  radio-gateway check-config config/gateway.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(call=_check_config)


def _check_config(arguments: argparse.Namespace) -> int:
    from gateway.app import load

    config = load(arguments.file)
    links = len(config.settings.links)
    sys.stdout.write(
        f"{arguments.file}: good: {links} links, {len(config.fleet.terminals)} terminals, "
        f"{len(config.people.officers)} officers, "
        f"policy {config.policy.version}, warnings {config.warnings.version}\n"
    )
    return EXIT_OK


def _add_factor(commands: argparse._SubParsersAction[_Parser]) -> None:
    factor = commands.add_parser(
        "factor",
        help="what to write into people.toml for an officer's PIN",
        description="Asks for the PIN (twice, unseen; or one line of stdin) and prints what stands "
        "for it in people.toml. The PIN itself is kept nowhere.",
        epilog="examples:\n  radio-gateway factor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    factor.add_argument("--memory-kib", type=int, default=None, metavar="N", help="book.memory_kib")
    factor.set_defaults(call=_factor)


def _factor(arguments: argparse.Namespace) -> int:
    from gateway.app import made_factor

    if sys.stdin.isatty():
        typed = getpass.getpass("PIN: ")
        if typed != getpass.getpass("again: "):
            sys.stderr.write("not the same twice; nothing was made\n")
            return EXIT_FAILED
    else:
        typed = sys.stdin.readline().rstrip("\r\n")
    made = made_factor(typed, arguments.memory_kib)
    if made is None:
        sys.stderr.write("4 to 64 visible ASCII characters but $; digits are what a keypad has\n")
        return EXIT_FAILED
    sys.stdout.write(f"{made}\n")
    return EXIT_OK


def _add_policy(commands: argparse._SubParsersAction[_Parser]) -> None:
    policy = commands.add_parser("policy", help="for approvers: make a key, seal a policy")
    verbs = policy.add_subparsers(metavar="ACT", required=True, parser_class=_Parser)
    key = verbs.add_parser(
        "key",
        help="a key of one's own; prints what stands for it among [approvers]",
        epilog="examples:\n  radio-gateway policy key my.key --name synthA",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    key.add_argument("file", type=Path, metavar="FILE", help="made here, readable by you alone")
    key.add_argument("--name", required=True, metavar="N")
    key.set_defaults(call=_policy_key)
    seal = verbs.add_parser(
        "seal",
        help="approve a policy as it stands: a line in the .seal beside it",
        epilog="examples:\n  radio-gateway policy seal config/policy.toml --key my.key --name N",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    seal.add_argument("file", type=Path, metavar="FILE")
    seal.add_argument("--key", type=Path, required=True, metavar="FILE")
    seal.add_argument("--name", required=True, metavar="N")
    seal.set_defaults(call=_policy_seal)


def _policy_key(arguments: argparse.Namespace) -> int:
    from gateway.app import approver_key

    try:
        public = approver_key(arguments.file)
    except OSError as error:
        sys.stderr.write(f"{arguments.file}: {error.strerror}\n")
        return EXIT_FAILED
    sys.stdout.write(f'{arguments.name} = "{public}"\n')
    return EXIT_OK


def _policy_seal(arguments: argparse.Namespace) -> int:
    from gateway.app import seal_policy

    try:
        seal = seal_policy(arguments.file, arguments.key, arguments.name)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"not sealed: {error}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{seal}: sealed by {arguments.name}\n")
    return EXIT_OK


def _add_record_key(commands: argparse._SubParsersAction[_Parser]) -> None:
    key = commands.add_parser(
        "record-key",
        help="a key for recordings: the host seals with one half and cannot read what it recorded",
        epilog="examples:\n  radio-gateway record-key faults.key\n"
        "  radio-gateway replay FILE --key faults.key",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    key.add_argument("file", type=Path, metavar="FILE", help="made here, readable by you alone")
    key.set_defaults(call=_record_key)


def _record_key(arguments: argparse.Namespace) -> int:
    from gateway.app import recording_key

    try:
        public = recording_key(arguments.file)
    except OSError as error:
        sys.stderr.write(f"{arguments.file}: {error.strerror}\n")
        return EXIT_FAILED
    sys.stdout.write(f"{public}: for record.public_key_file; keep {arguments.file} off that host\n")
    return EXIT_OK


def _add_replay(commands: argparse._SubParsersAction[_Parser]) -> None:
    replay = commands.add_parser(
        "replay",
        help="play what links recorded into an instance that is thrown away",
        description="Plays recordings of links (docs/recording.md) into an instance of its own, "
        "with its own clock and the mock PNC: no port, no broker, nothing that stays. Prints what "
        "it made of them.",
        epilog="examples:\n  radio-gateway replay gw1-1795342502114-1.rgrec --key faults.key\n"
        "  radio-gateway replay FILE --speed 4 --events",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("files", type=Path, nargs="+", metavar="FILE")
    replay.add_argument("--key", type=Path, metavar="FILE", help="with which they are sealed")
    replay.add_argument("--config", type=Path, metavar="FILE", help="people and rules; the sample")
    replay.add_argument("--link", default="", metavar="NAME", help="only what this one heard")
    replay.add_argument("--events", action="store_true", help="print each event, too")
    replay.add_argument(
        "--corpus",
        nargs=2,
        metavar=("CODEC", "NAME"),
        help="make a case of it instead: FOLDER/CODEC/NAME.jsonl, with identities made synthetic",
    )
    replay.add_argument("--from", dest="since", default="", metavar="T", help="of it, from then on")
    replay.add_argument("--to", dest="until", default="", metavar="T", help="until then (UTC)")
    replay.add_argument("--out", type=Path, default=Path("tests/corpus"), metavar="FOLDER")
    replay.add_argument("--source", default="recorded in the field", metavar="TEXT")
    pace = replay.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=float, default=None, metavar="N", help="times as fast")
    pace.add_argument("--as-it-happened", action="store_true", help="at its own pace")
    replay.set_defaults(call=_replay)


EXIT_REFUSED = 5


def _replay(arguments: argparse.Namespace) -> int:
    from adapters.recordings import RecordingUnreadable
    from gateway import replay

    speed = 1.0 if arguments.as_it_happened else arguments.speed or math.inf
    if not speed > 0:
        sys.stderr.write("--speed: more than 0\n")
        return EXIT_USAGE
    try:
        found = replay.read(arguments.files, arguments.key)
        if arguments.corpus:
            return _corpus_case(arguments, found)
        config = replay.allowed(arguments.config or _sample())
        made = asyncio.run(replay.play(found, config, speed=speed, links_only=arguments.link))
    except replay.ReplayRefused as error:
        sys.stderr.write(f"refused: {error}\n")
        return EXIT_REFUSED
    except (OSError, ValueError, RecordingUnreadable) as error:
        sys.stderr.write(f"not replayed: {error}\n")
        return EXIT_FAILED
    replay.say(found, made, sys.stdout, events=arguments.events)
    return EXIT_OK


def _corpus_case(arguments: argparse.Namespace, found: Sequence[Recording]) -> int:
    from gateway import corpus_case, replay

    codec, name = arguments.corpus
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,40}", name):
        sys.stderr.write("NAME: a-z, 0-9, `-`, `_`, at most 41\n")
        return EXIT_USAGE
    since, until = (
        datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() * 1000 if each else other
        for each, other in ((arguments.since, -math.inf), (arguments.until, math.inf))
    )
    _, heard = replay.heard_by(found, arguments.link, since, until)
    try:
        made = corpus_case.cases(heard, codec, name, arguments.source)
    except corpus_case.CannotBeMade as error:
        sys.stderr.write(f"not made: {error}; nothing was written\n")
        return EXIT_FAILED
    file = arguments.out / codec / f"{name}.jsonl"
    with file.open("x", encoding="utf-8") as out:
        out.writelines(f"{json.dumps(each, ensure_ascii=False)}\n" for each in made)
    sys.stdout.write(
        f"{file}: {len(made)} cases. What they expect is what is decided now: look at it\n"
    )
    return EXIT_OK


def _sample() -> Path:
    from gateway.settings import sample_folder

    return sample_folder() / "gateway.toml"


def _add_terminal(commands: argparse._SubParsersAction[_Parser]) -> None:
    from simulators import terminal

    parser = commands.add_parser(
        "terminal",
        help="be one officer: a virtual radio over the real codec and bearer",
        epilog='examples:\n  radio-gateway terminal --once "V TE99ABC R1" --wait\n'
        "  radio-gateway terminal --bearer serial --port radio-1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    terminal.add_arguments(parser)
    parser.set_defaults(call=lambda arguments: asyncio.run(terminal.from_arguments(arguments)))


def _add_simulate(commands: argparse._SubParsersAction[_Parser]) -> None:
    from simulators import run

    parser = commands.add_parser(
        "simulate",
        help="run simulators against a gateway that is already running",
        epilog="examples:\n  radio-gateway simulate demo\n  radio-gateway simulate pnc --port 8089",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_arguments(parser)
    parser.set_defaults(call=lambda arguments: asyncio.run(run.from_arguments(arguments)))


def _add_audit(commands: argparse._SubParsersAction[_Parser]) -> None:
    audit = commands.add_parser("audit", help="for auditors: verify, export, show, prove")
    verbs = audit.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    verify = _audit_verb(
        verbs,
        "verify",
        "prove the chain; names the first bad record",
        ("", "--heads heads.jsonl"),
        _audit_verify,
    )
    verify.add_argument(
        "--heads",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="heads that were kept elsewhere: an anchor's file, a copy; may be given again",
    )
    verify.add_argument(
        "--keys",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="public keys that you trust, a file or a folder; else those of the state folder",
    )
    export = _audit_verb(
        verbs,
        "export",
        "records as JSON Lines; the export is itself put on record",
        ("--purpose lawfulness --format jsonl",),
        _audit_export,
    )
    _looking(export, "who exports")
    export.add_argument("--format", choices=("jsonl",), default="jsonl")
    export.add_argument("--from", dest="since_ms", type=_moment, metavar="TIME")
    export.add_argument("--to", dest="until_ms", type=_moment, metavar="TIME")
    show = _audit_verb(
        verbs,
        "show",
        "what a receipt proves, in words and as JSON; looking is itself put on record",
        ("", "--format json"),
        _audit_show,
        example="4F2A-91KQ",
    )
    show.add_argument("receipt", metavar="RECEIPT")
    _looking(show, "who looks", purpose="integrity-security")
    show.add_argument("--format", choices=("text", "json"), default="text")
    prove = _audit_verb(
        verbs,
        "prove",
        "proofs that records are under a signed head; looking is itself put on record",
        ("",),
        _audit_prove,
        example="4F2A-91KQ",
    )
    prove.add_argument("what", type=str.upper, metavar="NUMBER|RECEIPT")
    _looking(prove, "who looks", purpose="integrity-security")
    consistency = _audit_verb(
        verbs,
        "consistency",
        "a proof that a head goes on from an older one",
        ("",),
        _audit_consistency,
        example="1000 2000",
    )
    consistency.add_argument("old", type=int, metavar="OLD", help="a head's number (seq)")
    consistency.add_argument("new", type=int, metavar="NEW", help="a later one's")
    key = _audit_verb(
        verbs,
        "key",
        "the keys that sign heads: make the next one, or list them",
        ("",),
        _audit_key,
        example="new",
    )
    key.add_argument("act", choices=("new", "list"))


def _audit_verb(
    verbs: argparse._SubParsersAction[_Parser],
    name: str,
    says: str,
    examples: Sequence[str],
    call: Callable[[argparse.Namespace], int],
    *,
    example: str = "",
) -> argparse.ArgumentParser:
    """A verb with its `--config`. examples: the options of each; example: what stands first."""
    words = " ".join(["radio-gateway audit", name, *filter(None, [example])])
    lines = [f"  {words} --config config/gateway.toml {each}".rstrip() for each in examples]
    verb = verbs.add_parser(
        name,
        help=says,
        epilog="\n".join(["examples:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--config", type=Path, required=True, metavar="FILE")
    verb.set_defaults(call=call)
    return verb


def _looking(verb: argparse.ArgumentParser, who: str, *, purpose: str = "") -> None:
    """Who looks, and what for: both go on record before anything is read."""
    verb.add_argument("--purpose", default=purpose or None, required=not purpose, choices=PURPOSES)
    verb.add_argument("--by", default=_whoami(), metavar="NAME", help=who)


def _add_account(commands: argparse._SubParsersAction[_Parser]) -> None:
    account = commands.add_parser("account", help="who may log in to the control room's page")
    verbs = account.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    add = verbs.add_parser(
        "add",
        help="a new operator in the people file; the password is asked, or made and said once",
        epilog="examples:\n  radio-gateway account add ann --role operator "
        "--config config/gateway.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("name", metavar="NAME", help="what they log in with")
    add.add_argument("--role", action="append", required=True, choices=ROLES, dest="roles")
    add.add_argument("--config", type=Path, required=True, metavar="FILE")
    add.add_argument("--ask", action="store_true", help="ask for the password instead")
    add.set_defaults(call=_account_add)


def _account_add(arguments: argparse.Namespace) -> int:
    from gateway.app import account_add

    own = getpass.getpass("password: ") if arguments.ask else ""
    if arguments.ask and own != getpass.getpass("again: "):
        sys.stderr.write("the two are not the same; nothing was changed\n")
        return EXIT_FAILED
    password, file = account_add(arguments.config, arguments.name, arguments.roles, own)
    if not arguments.ask:
        sys.stdout.write(f"{password}\n")
        sys.stdout.flush()
        sys.stderr.write("this is the password of the new account; it is not shown again\n")
    sys.stderr.write(f"{arguments.name} is in {file}; SIGHUP takes it over\n")
    return EXIT_OK


def _add_pki(commands: argparse._SubParsersAction[_Parser]) -> None:
    from adapters.pki import command

    parser = commands.add_parser(
        "pki",
        help="a development CA: certificates for the broker, the gateway and terminals",
        description="A development CA in a folder. Not for production: its key is not protected.",
        epilog="examples:\n  radio-gateway pki init pki\n"
        "  radio-gateway pki issue pki broker gateway --host 127.0.0.1\n"
        "  radio-gateway pki renew pki 5001001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(
        parser.add_subparsers(metavar="VERB", required=True, parser_class=_Parser)
    )


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _audit_verify(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_verify

    try:
        for said in audit_verify(arguments.config, arguments.heads, arguments.keys):
            sys.stdout.write(f"{said}\n")
    except ChainBroken as error:
        sys.stderr.write(f"chain broken at {error.log}:{error.seq}: {error.reason}\n")
        return EXIT_CHAIN
    return EXIT_OK


def _audit_show(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_show

    proofs = audit_show(
        arguments.config, arguments.receipt, purpose=arguments.purpose, by=arguments.by
    )
    bare = arguments.format == "json"
    lines = (proof if bare else f"{says}\n\n".encode() + proof for says, proof in proofs)
    return _written(lines, "no record has this receipt")


def _audit_prove(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_prove

    lines = audit_prove(
        arguments.config, arguments.what, purpose=arguments.purpose, by=arguments.by
    )
    return _written(lines, "no record has this number or receipt")


def _audit_consistency(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_consistency

    return _written(
        (audit_consistency(arguments.config, each, arguments.new) for each in (arguments.old,)), ""
    )


def _written(lines: Iterable[bytes], none: str) -> int:
    found = 0
    try:
        for line in lines:
            sys.stdout.buffer.write(line)
            found += 1
    except ChainBroken as error:
        sys.stderr.write(f"chain broken at {error.log}:{error.seq}: {error.reason}\n")
        return EXIT_CHAIN
    sys.stdout.flush()
    if not found:
        sys.stderr.write(f"{none}\n")
        return EXIT_FAILED
    return EXIT_OK


def _audit_key(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_key

    for said in audit_key(arguments.config, new=arguments.act == "new"):
        sys.stdout.write(f"{said}\n")
    return EXIT_OK


def _audit_export(arguments: argparse.Namespace) -> int:
    from gateway.app import audit_export

    manifest = audit_export(
        arguments.config,
        purpose=arguments.purpose,
        by=arguments.by,
        since_ms=arguments.since_ms,
        until_ms=arguments.until_ms,
        out=sys.stdout.buffer,
    )
    sys.stdout.flush()
    sys.stderr.write(f"{manifest}\n")
    return EXIT_OK


def _moment(text: str) -> int:
    """ISO 8601 with a zone, as ms since the epoch."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError("a time with its zone, as 2026-11-22T10:15:02Z")
    return round(at.timestamp() * 1000)
