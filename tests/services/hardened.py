"""A real mosquitto on config/mosquitto as it stands: only paths, port, instance and user differ."""

from __future__ import annotations

import contextlib
import getpass
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

from adapters.pki.authority import Authority
from tests.services.mosquitto import Mosquitto

CONFIG = Path(__file__).resolve().parents[2] / "config" / "mosquitto"
THERE = "/etc/mosquitto/radio-gateway"
GATEWAY = ("radio-gateway", "radio-gateway-status", "radio-gateway-feed")
READER = "control-room"


def authority(folder: Path, *names: str) -> Authority:
    """A CA that issued to the broker, the gateway, a reader and these names."""
    made = Authority(folder)
    made.init()
    made.issue("broker", hosts=["127.0.0.1"])
    for name in (*GATEWAY, READER, *names):
        made.issue(name)
    return made


class Hardened(Mosquitto):
    """`folder` holds what mosquitto writes; `pki` the certificates of its users. phones: with the
    rules that stand there for them, off."""

    def __init__(
        self, folder: Path, pki: Authority, *, instance: str = "gwt", phones: bool = False
    ) -> None:
        super().__init__(folder, lines=("# replaced",))
        self.pki = pki
        acl = folder / "acl"
        rules = _changed("acl", **{"gateway/gw1/": (f"gateway/{instance}/", 4)})
        if phones:
            rules = rules.replace("\n#: ", "\n").replace("gateway/gw1/", f"gateway/{instance}/")
        acl.write_text(rules, "utf-8")
        acl.chmod(0o600)
        text = _changed(
            "mosquitto.conf",
            **{
                f"{THERE}/pki/": (f"{pki.folder}/", 4),
                f"{THERE}/acl": (str(acl), 1),
                "listener 8883\n": (f"listener {self.port} 127.0.0.1\n", 1),
                "user mosquitto\n": (f"user {getpass.getuser()}\n", 1),
                "/var/lib/mosquitto/": (f"{folder}/", 1),
            },
        )
        self.config.write_text(text, "utf-8")

    def reload(self) -> None:
        """As `systemctl reload mosquitto`: certificates and the revocation list are read again."""
        self.send(signal.SIGHUP)

    def context(self, name: str) -> ssl.SSLContext:
        """As the holder of this name's certificate connects; empty: without any."""
        context = ssl.create_default_context(cafile=self.pki.folder / "ca.crt")
        if name:
            context.load_cert_chain(
                self.pki.folder / f"{name}.crt", self.pki.folder / f"{name}.key"
            )
        return context

    def access(self) -> dict[str, object]:
        """The keys of `[[mqtt]]` with which a gateway connects."""
        pem = self.pki.folder
        said: dict[str, object] = {"tls": True, "ca_file": str(pem / "ca.crt")}
        for key, name in zip(("", "status_", "feed_"), GATEWAY, strict=True):
            said[f"{key}cert_file"] = str(pem / f"{name}.crt")
            said[f"{key}key_file"] = str(pem / f"{name}.key")
        return said


def _changed(name: str, **words: tuple[str, int]) -> str:
    """The file of config/mosquitto with each word replaced, as often as it must stand there."""
    text = (CONFIG / name).read_text("utf-8")
    for old, (new, times) in words.items():
        rules = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
        assert sum(line.count(old) for line in rules) == times, f"{name}: {old}"
        text = "".join(
            line if line.startswith("#") else line.replace(old, new)
            for line in text.splitlines(keepends=True)
        )
    return text


@contextlib.contextmanager
def running(folder: Path, pki: Authority, *, phones: bool = False) -> Iterator[Hardened]:
    broker = Hardened(folder, pki, phones=phones)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
