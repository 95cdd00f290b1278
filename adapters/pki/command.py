"""`radio-gateway pki`: reads its arguments, calls the authority, says what was made.

What signs is loaded when a verb runs: it takes longer to load than the rest of the command line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.pki.words import BROKER, CA_DAYS, CLIENT_ID, GATEWAY, MOST_DAYS, SESSIONS, PkiError

if TYPE_CHECKING:
    from adapters.pki.authority import Authority, Issued

EXIT_OK, EXIT_FAILED = 0, 1


def add_arguments(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The verbs of `radio-gateway pki`; each sets `call`."""
    init = verbs.add_parser("init", help="a new CA in a new folder")
    init.add_argument("dir", type=Path, metavar="DIR")
    init.add_argument("--days", type=float, default=CA_DAYS, metavar="N", help="its life")
    init.set_defaults(call=_told(_init))
    issue = verbs.add_parser(
        "issue",
        help="a key and a certificate for each WHO: `broker`, `gateway`, a reader, or an ISSI",
        epilog="examples:\n  radio-gateway pki issue pki broker --host mqtt.example.org\n"
        "  radio-gateway pki issue pki gateway control-room\n"
        "  radio-gateway pki issue pki 5001001 5001002 --days 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    issue.add_argument("dir", type=Path, metavar="DIR")
    issue.add_argument("who", nargs="+", metavar="WHO")
    issue.add_argument(
        "--host", action="append", default=[], metavar="H", help="of the broker; may be repeated"
    )
    issue.set_defaults(call=_told(_issue))
    renew = verbs.add_parser(
        "renew", help="a new certificate for the key that is there, in place of the old one"
    )
    renew.add_argument("dir", type=Path, metavar="DIR")
    renew.add_argument("who", nargs="+", metavar="WHO")
    renew.set_defaults(call=_told(_renew))
    for parser in (issue, renew):
        parser.add_argument(
            "--days", type=float, default=None, metavar="N", help=f"life, at most {MOST_DAYS:g}"
        )
        parser.add_argument(
            "--client-id",
            default=CLIENT_ID,
            metavar="NAME",
            help="for `gateway`: mqtt.client_id of its configuration",
        )
    revoke = verbs.add_parser("revoke", help="take back every certificate of WHO; rewrites crl.pem")
    revoke.add_argument("dir", type=Path, metavar="DIR")
    revoke.add_argument("who", metavar="WHO")
    revoke.set_defaults(call=_told(_revoke))
    show = verbs.add_parser("show", help="every certificate that was made here, and its state")
    show.add_argument("dir", type=Path, metavar="DIR")
    show.set_defaults(call=_told(_show))


def _authority(arguments: argparse.Namespace) -> Authority:
    from adapters.pki.authority import Authority

    return Authority(arguments.dir)


Verb = Callable[[argparse.Namespace], None]


def _told(verb: Verb) -> Callable[[argparse.Namespace], int]:
    """The verb's errors as one line and an exit code."""

    def call(arguments: argparse.Namespace) -> int:
        try:
            verb(arguments)
        except (PkiError, OSError) as error:
            sys.stderr.write(f"pki: {error}\n")
            return EXIT_FAILED
        return EXIT_OK

    return call


def _init(arguments: argparse.Namespace) -> None:
    _authority(arguments).init(arguments.days)
    sys.stdout.write(f"{arguments.dir}/ca.crt: a development CA; keep ca.key to yourself\n")


def _names(arguments: argparse.Namespace) -> list[str]:
    """`gateway` stands for each of its connections."""
    from adapters.pki.authority import check

    names: list[str] = []
    for who in arguments.who:
        if who == GATEWAY:
            names += [f"{arguments.client_id}{session}" for session in SESSIONS]
        else:
            names.append(who)
    for name in names:
        check(name)  # all, before anything is made
    return names


def _issue(arguments: argparse.Namespace) -> None:
    authority = _authority(arguments)
    names = _names(arguments)
    if arguments.host and BROKER not in names:
        raise PkiError("--host: is for the broker alone")
    for name in names:
        hosts = arguments.host if name == BROKER else ()
        _say(arguments.dir, authority.issue(name, days=arguments.days, hosts=hosts))


def _renew(arguments: argparse.Namespace) -> None:
    authority = _authority(arguments)
    for name in _names(arguments):
        _say(arguments.dir, authority.renew(name, days=arguments.days))


def _say(folder: Path, issued: Issued) -> None:
    sys.stdout.write(f"{folder}/{issued.name}.crt: until {issued.not_after}\n")


def _revoke(arguments: argparse.Namespace) -> None:
    gone = _authority(arguments).revoke(arguments.who)
    for each in gone:
        sys.stdout.write(f"{each.name}: {each.serial} revoked\n")
    sys.stdout.write(f"give {arguments.dir}/crl.pem to the broker and reload it\n")


def _show(arguments: argparse.Namespace) -> None:
    authority = _authority(arguments)
    for each in authority.show():
        sys.stdout.write(
            f"{each.name:<24} {authority.state(each):<8} {each.not_after}  {each.serial}\n"
        )
