"""Receivers on PTYs that say their sentences as fast as the lines take them.

`python -m tests.bench.line rmc|mixed COUNT LINES`: prints the path of each line, begins on a line
of input, and prints `done` when the kernel has taken the last byte. COUNT sentences on each.
"""

from __future__ import annotations

import os
import pty
import selectors
import sys
import tty

STEP_CS = 1
"""Hundredths of a second between two fixes: a day of them is more than any run needs."""


def sentence(body: str) -> bytes:
    value = 0
    for byte in body.encode():
        value ^= byte
    return b"$%b*%02X\r\n" % (body.encode(), value)


def sentences(what: str, count: int) -> bytes:
    """rmc: a fix each. mixed: as a receiver says each second: RMC, GGA, GSA, 3 GSV, GLL, VTG."""
    out: list[bytes] = []
    epoch = 0
    while len(out) < count:
        cs = epoch * STEP_CS
        at = f"{cs // 360000:02d}{cs // 6000 % 60:02d}{cs // 100 % 60:02d}.{cs % 100:02d}"
        north, west = f"5234.{3500 + epoch % 97:04d},N", f"00014.{5860 + epoch % 89:04d},W"
        out.append(sentence(f"GPRMC,{at},A,{north},{west},2.40,090.0,221126,,,A"))
        if what == "mixed":
            out += [
                sentence(f"GPGGA,{at},{north},{west},1,08,1.0,12.0,M,47.0,M,,"),
                sentence("GPGSA,A,3,04,05,09,12,24,25,29,31,,,,,1.8,1.0,1.5"),
                sentence("GPGSV,3,1,11,04,40,083,46,05,17,308,41,09,07,344,39,12,22,228,45"),
                sentence("GPGSV,3,2,11,24,65,120,44,25,30,200,42,29,48,300,47,31,12,050,33"),
                sentence("GPGSV,3,3,11,02,05,010,20,06,02,180,18,19,01,270,15"),
                sentence(f"GPGLL,{north},{west},{at},A,A"),
                sentence("GPVTG,090.0,T,,M,2.40,N,4.44,K,A"),
            ]
        epoch += 1
    return b"".join(out[:count])


def main() -> None:
    what, count, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    data = sentences(what, count)
    ready = selectors.DefaultSelector()
    kept = []
    for _ in range(lines):
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        kept.append(slave)
        ready.register(master, selectors.EVENT_WRITE, memoryview(data))
        print(os.ttyname(slave), flush=True)
    sys.stdin.readline()
    while ready.get_map():
        for key, _ in ready.select():
            rest = key.data[os.write(key.fd, key.data[:4096]) :]
            if rest:
                ready.modify(key.fd, selectors.EVENT_WRITE, rest)
            else:
                ready.unregister(key.fd)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
