"""A development CA, by openssl: certificates for 127.0.0.1 that live two days."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Pki:
    """`ca.crt`, and `NAME.crt`, `NAME.key` of whoever is issued one, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        self.authority("ca")

    def authority(self, name: str) -> None:
        """A CA of that name, self-signed; `ca` is ours, any other a stranger."""
        self._openssl(
            *("req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.crt"),
            *("-days", "2", "-subj", f"/CN={name}"),
        )

    def issue(self, name: str) -> None:
        """A certificate by `ca` whose common name is `name`."""
        self._openssl(
            *("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", f"{name}.crt", "-days", "2", "-extfile", "san"),
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)
        for path in self.folder.iterdir():
            path.chmod(0o644)  # for a broker that runs as somebody else
