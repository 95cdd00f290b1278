"""The floor of a gateway on a TETRA radio's port: a loop on a file descriptor that answers at once.

`python -m tests.bench.pei_echo PORT TEXT`: registers for text, then says to each caller `Q12 SENT
C000` and TEXT behind its own `Q12 `, one message at a time; no record, no policy, nothing of ours.
"""

from __future__ import annotations

import os
import re
import sys
import tty

HEARD = re.compile(rb"\+CTSDSR: 12,(\d+),0,\d+,0,\d+\r\n([0-9A-F]+)\r\n")
OVER = re.compile(rb"(?:\+CMGS: \d+,[45],\d+|ERROR[^\r]*)\r\n")
REF = re.compile(rb" (Q\d+)$")


class Line:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._file)
        self._data = b""

    def write(self, text: str) -> None:
        os.write(self._file, text.encode())

    def until(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        """The first match, cut out; what stands around it is kept for the next."""
        while not (found := pattern.search(self._data)):
            self._data += os.read(self._file, 4096)
        self._data = self._data[: found.start()] + self._data[found.end() :]
        return found


def main() -> None:
    line, text = Line(sys.argv[1]), sys.argv[2]
    ok = re.compile(rb"OK\r\n")
    for command in ("ATE0", "AT+CMEE=1", "AT+CTSP=1,3,130", "AT+CTSDS=12,0"):
        line.write(f"{command}\r\n")
        line.until(ok)
    print("ready", flush=True)
    mr = 0
    while True:
        caller, digits = line.until(HEARD).groups()
        if not (ref := REF.search(bytes.fromhex(digits.decode()))):
            continue
        for said in ("SENT C000", text):
            mr = (mr + 1) % 256
            pdu = bytes([0x82, 0x02, mr, 1]) + f"{ref[1].decode()} {said}".encode()
            line.write(f"AT+CMGS={caller.decode()},{8 * len(pdu)}\r\n{pdu.hex().upper()}\x1a")
            line.until(OVER)


if __name__ == "__main__":
    main()
