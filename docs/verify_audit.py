#!/usr/bin/env python3
"""Verify an export of the audit without the gateway: one file, Python's standard library only.

    python3 verify_audit.py export.jsonl --heads heads.jsonl --keys audit-0123456789abcdef.pub

export.jsonl: the lines of `radio-gateway audit export`, from the first record on. --heads: heads
that were kept elsewhere (an anchor's file, what a syslog took, a copy of heads.jsonl), again for
each. --keys: the public keys that you trust, got by another way than the heads. --proof: a proof of
`audit prove` or `audit consistency` (then without an export).

Ends with 0 when all of it verifies, 6 when not (the first bad record is named), 64 when it was
called wrongly. The formats stand in docs/interfaces.md, Audit export; hashing is that of RFC 6962,
signatures are Ed25519 (RFC 8032). It shares no code with the gateway, on purpose.
"""

import argparse
import base64
import hashlib
import json
import sys

GENESIS = "0" * 64


class Bad(Exception):
    """Something does not verify. Names log and record."""


# ---------------------------------------------------------------- Ed25519, RFC 8032 section 5.1

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_M1 = pow(2, (P - 1) // 4, P)


def _add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number, point):
    found = (0, 1, 1, 0)
    while number:
        if number & 1:
            found = _add(found, point)
        point = _add(point, point)
        number >>= 1
    return found


def _point(raw):
    """A point of the curve; None when these 32 bytes are none."""
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_M1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = _point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(public, message, signature):
    """Whether `signature` (64 bytes) is that of the 32 bytes of a public key over a message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, half = _point(public), _point(signature[:32])
    number = int.from_bytes(signature[32:], "little")
    if key is None or half is None or number >= L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left = _times(number, BASE)
    right = _add(half, _times(int.from_bytes(digest, "little") % L, key))
    return not ((left[0] * right[2] - right[0] * left[2]) % P) and not (
        (left[1] * right[2] - right[1] * left[2]) % P
    )


# ---------------------------------------------------------------- the tree, RFC 6962 section 2.1


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The roots of its whole subtrees: [(leaves, root)], largest first."""

    def __init__(self, first):
        self.first, self.size, self.parts = first, 0, []

    def append(self, leaf):
        self.size += 1
        self.parts.append((1, leaf))
        while len(self.parts) > 1 and self.parts[-1][0] == self.parts[-2][0]:
            (count, left), (_, right) = self.parts[-2:]
            self.parts[-2:] = [(2 * count, node(left, right))]

    def root(self):
        if not self.parts:
            return hashlib.sha256().digest()
        root = self.parts[-1][1]
        for _, part in self.parts[-2::-1]:
            root = node(part, root)
        return root


def split(size):
    left = 1
    while left * 2 < size:
        left *= 2
    return left


def root_by_inclusion(leaf, index, size, proof):
    """RFC 6962, 2.1.1, read backwards; None when the proof is too long or too short."""
    if size == 1:
        return leaf if not proof else None
    if not proof:
        return None
    left = split(size)
    if index < left:
        root = root_by_inclusion(leaf, index, left, proof[:-1])
        return root and node(root, proof[-1])
    root = root_by_inclusion(leaf, index - left, size - left, proof[:-1])
    return root and node(proof[-1], root)


def roots_by_consistency(old, size, proof, old_root, whole=True):
    """RFC 6962, 2.1.2, read backwards: (root of the old tree, root of the new one), or None."""
    if old == size:
        if whole:
            return (old_root, old_root) if not proof else None
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    left, last = split(size), proof[-1]
    if old <= left:
        found = roots_by_consistency(old, left, proof[:-1], old_root, whole)
        return found and (found[0], node(found[1], last))
    found = roots_by_consistency(old - left, size - left, proof[:-1], old_root, False)
    return found and (node(last, found[0]), node(last, found[1]))


# ---------------------------------------------------------------- reading


def canonical(members):
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def read_lines(path):
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def read_keys(paths):
    """Key id -> 32 bytes, of PEM files (SubjectPublicKeyInfo of an Ed25519 key)."""
    keys = {}
    for path in paths:
        with open(path, encoding="ascii") as file:
            body = "".join(line.strip() for line in file if not line.startswith("-"))
        raw = base64.b64decode(body)
        if len(raw) != 44 or raw[:12].hex() != "302a300506032b6570032100":
            raise ValueError(f"{path}: not an Ed25519 public key")
        keys[hashlib.sha256(raw[12:]).hexdigest()[:16]] = raw[12:]
    return keys


def head_of(line):
    """A head as a dict; a syslog line may stand before it."""
    return json.loads(line[line.index(b"{") :])


def read_heads(paths):
    """[(file, head)] in order. A line that a power cut tore is passed over, and said."""
    found = []
    for path in paths:
        for number, line in read_lines(path):
            try:
                head = head_of(line)
                found.append((path, {**head, "log": str(head["log"]), "seq": int(head["seq"])}))
            except (ValueError, KeyError, TypeError):
                print(f"{path}:{number}: not a head: passed over", file=sys.stderr)
    return found


# ---------------------------------------------------------------- verifying


def head_message(head):
    return canonical({k: v for k, v in head.items() if k not in ("sig", "old_sig")})


def check_head(head, keys, vouched=()):
    """What is wrong with a signed head by itself, "" when nothing. vouched: digests that a later
    head, which was verified, names as the one before it: those need no signature of their own."""
    message = b"\x02" + head_message(head)
    if head["v"] != 1:
        return f"version {head['v']} is not known here"
    if head["size"] != head["seq"] - head["first"] + 1:
        return "its size is not that of its tree"
    if head.get("key") not in keys:
        return f"signed by {head.get('key')}, a key that is not given"
    if hashlib.sha256(message).hexdigest() in vouched and not head.get("rotates"):
        return ""
    if not signed(keys[head["key"]], message, bytes.fromhex(head.get("sig", ""))):
        return "its signature is not that of its key"
    old = head.get("rotates")
    if old and old not in keys:
        return f"replaces {old}, a key that is not given"
    if old and not signed(keys[old], message, bytes.fromhex(head.get("old_sig", ""))):
        return "the key that it replaces did not sign it"
    return ""


def check_heads(heads, keys):
    """Each signed head by itself; by log and sequence what is known. Raises Bad."""
    known, vouched = {}, set()
    signed_before = {}
    for path, head in heads:
        if head.get("v"):
            signed_before[path, head["log"]] = True
        elif (path, head["log"]) in signed_before:
            raise Bad(f"{head['log']}:{head['seq']}: its head in {path} is not signed")
    for path, head in reversed(heads):
        if head.get("v"):
            try:
                bad = check_head(head, keys, vouched)
            except (KeyError, TypeError, ValueError) as error:
                bad = f"it lacks what a head must have ({error})"
            if bad:
                raise Bad(f"{head['log']}:{head['seq']}: its head in {path}: {bad}")
            vouched.add(head.get("prev", ""))
        known.setdefault(head["log"], {}).setdefault(head["seq"], []).append(head)
    return known


class Log:
    """One log of the export, as far as it was read."""

    def __init__(self, name, heads):
        self.name, self.heads = name, heads
        self.seq, self.hash, self.count, self.agreed, self.proved = 0, GENESIS, 0, 0, 0
        self.gaps, self.tree = [], Tree(1)

    def bad(self, seq, why):
        return Bad(f"{self.name}:{seq}: {why}")

    def take(self, line):
        members = json.loads(line)
        stored = members.pop("hash")
        members.pop("t", None)
        expected, seq = self.seq + 1, members["seq"]
        leaf = hashlib.sha256(b"\x00" + canonical(members)).digest()
        if seq == expected and leaf.hex() != stored:
            raise self.bad(seq, "its bytes do not have its hash")
        prev = members["prev"]
        if seq != expected:
            if not self._is_gap(members) or leaf.hex() != stored:
                raise self.bad(min(seq, expected), f"expected {expected}, found {seq}")
            self.gaps.append((expected, seq - 1))
            self.tree = Tree(seq)
        elif prev != self.hash:
            raise self.bad(max(1, seq - 1), f"it was changed, or {seq} that follows it")
        self.seq, self.hash, self.count = seq, leaf.hex(), self.count + 1
        self.tree.append(leaf)
        for head in self.heads.get(seq, ()):
            tree = (head.get("first"), head.get("size"), head.get("root"))
            here = (self.tree.first, self.tree.size, self.tree.root().hex())
            if head["hash"] != self.hash or (head.get("v") and tree != here):
                within = f"{self.agreed + 1}..{seq}"
                raise self.bad(self.agreed + 1, f"not what head {seq} signed: bad within {within}")
            self.proved += bool(head.get("v"))
        if seq in self.heads:
            self.agreed = seq

    def _is_gap(self, members):
        """A log may go on behind records that are not here, from a head: it says so."""
        if members["seq"] <= self.seq or members.get("operation") != "segment":
            return False
        before = {
            h["hash"] for seq, heads in self.heads.items() for h in heads if seq < members["seq"]
        }
        return not before or members["prev"] in before

    def end(self):
        known = max(self.heads, default=0)
        if known > self.seq:
            raise self.bad(self.seq + 1, f"cut off: the heads know {known} records")


def verify(export, heads, keys):
    """A line for each log. Raises Bad."""
    known = check_heads(heads, keys)
    logs = {}
    for number, line in read_lines(export):
        try:
            name = json.loads(line)["log"]
            log = logs.setdefault(name, Log(name, known.get(name, {})))
            log.take(line)
        except (ValueError, KeyError, TypeError) as error:
            raise Bad(f"{export}:{number}: not a record of an export ({error})") from error
    for name in sorted({*known} - {*logs}):
        raise Bad(f"{name}:0: the heads know this log, the export does not")
    for log in logs.values():
        log.end()
        gaps = "".join(f"; NOT HERE, as is on record: {a}..{b}" for a, b in log.gaps)
        print(
            f"{log.name}: {log.count} records verify; {log.proved} signed heads, "
            f"up to {log.agreed}; head {log.hash}{gaps}"
        )


def verify_proof(proof, keys):
    """A line of `audit prove` or `audit consistency`. Raises Bad."""
    steps = [bytes.fromhex(step) for step in proof["proof"]]
    heads = [proof["head"], *([proof["old"]] if "old" in proof else [])]
    for head in heads:
        bad = check_head(head, keys)
        if bad:
            raise Bad(f"{head['log']}:{head['seq']}: its head: {bad}")
    new = proof["head"]
    root = bytes.fromhex(new["root"])
    if "old" in proof:
        old = proof["old"]
        roots = None
        if (old["log"], old["first"]) == (new["log"], new["first"]) and old["size"] <= new["size"]:
            was = bytes.fromhex(old["root"])
            roots = roots_by_consistency(old["size"], new["size"], steps, was)
        if roots != (bytes.fromhex(old["root"]), root):
            raise Bad(f"{new['log']}:{new['seq']}: does not go on from head {old['seq']}")
        print(f"{new['log']}: head {new['seq']} goes on from head {old['seq']}, unchanged")
        return
    record = proof["record"].encode()
    members = json.loads(record)
    leaf = hashlib.sha256(b"\x00" + record).digest()
    index = members["seq"] - new["first"]
    found = None
    if members["log"] == new["log"] and 0 <= index < new["size"]:
        found = root_by_inclusion(leaf, index, new["size"], steps)
    if found != root:
        raise Bad(f"{members['log']}:{members['seq']}: is not under head {new['seq']}")
    print(f"{members['log']}:{members['seq']} is under head {new['seq']}, signed by {new['key']}")


def main(words=None):
    parser = argparse.ArgumentParser(description="Verify an export of the audit, or a proof.")
    parser.add_argument("export", nargs="?", help="the lines of `audit export`")
    parser.add_argument("--heads", action="append", default=[], metavar="FILE")
    parser.add_argument("--keys", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--proof", metavar="FILE")
    try:
        options = parser.parse_args(words)
    except SystemExit as end:
        return 64 if end.code else 0
    if not options.export and not options.proof:
        parser.print_usage(sys.stderr)
        return 64
    try:
        keys = read_keys(options.keys)
        if options.proof:
            for _, line in read_lines(options.proof):
                verify_proof(json.loads(line), keys)
        if options.export:
            verify(options.export, read_heads(options.heads), keys)
    except Bad as error:
        print(f"BAD: {error}", file=sys.stderr)
        return 6
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
