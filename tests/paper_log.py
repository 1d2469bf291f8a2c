"""A log and its verifier by the words of RFC 6962 and C2SP alone: no code of the service's own.

It serves as the second opinion: what the service writes must be read here, and the other way round.
"""

import base64
import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)


def hash_leaf(leaf: bytes) -> bytes:
    """RFC 6962, section 2.1: MTH({d(0)})."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def hash_tree(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1: MTH(D[n])."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hash_leaf(leaves[0])
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + hash_tree(leaves[:k]) + hash_tree(leaves[k:])).digest()


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def list_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """RFC 6962, section 2.1.1: PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*list_path(index, leaves[:k]), hash_tree(leaves[k:])]
    return [*list_path(index - k, leaves[k:]), hash_tree(leaves[:k])]


def list_growth(old: int, leaves: Sequence[bytes], *, is_known: bool = True) -> list[bytes]:
    """RFC 6962, section 2.1.2: PROOF(m, D[n]), as SUBPROOF(m, D[n], b)."""
    if old == len(leaves):
        return [] if is_known else [hash_tree(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*list_growth(old, leaves[:k], is_known=is_known), hash_tree(leaves[k:])]
    return [*list_growth(old - k, leaves[k:], is_known=False), hash_tree(leaves[:k])]


def make_key_id(name: str, typed_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:4]


def make_verifier_key(name: str, public_key: bytes, kind: bytes = b"\x01") -> str:
    typed_key = kind + public_key
    encoded = base64.b64encode(typed_key).decode()
    return f"{name}+{make_key_id(name, typed_key).hex()}+{encoded}"


class PaperLog:
    """A log over leaves, signed with its own key."""

    def __init__(self, origin: str, private_key: Ed25519PrivateKey, leaves: Sequence[bytes]):
        self.origin = origin
        self.private_key = private_key
        self.leaves = list(leaves)
        self.public_key = private_key.public_key().public_bytes_raw()
        self.verifier_key = make_verifier_key(origin, self.public_key)

    def checkpoint(self, size: int | None = None) -> str:
        leaves = self.leaves[:size]
        root = base64.b64encode(hash_tree(leaves)).decode()
        body = f"{self.origin}\n{len(leaves)}\n{root}\n"
        key_id = make_key_id(self.origin, b"\x01" + self.public_key)
        blob = base64.b64encode(key_id + self.private_key.sign(body.encode())).decode()
        return f"{body}\n— {self.origin} {blob}\n"

    def proof(self, index: int, size: int | None = None) -> str:
        path = list_path(index, self.leaves[:size])
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
        return f"c2sp.org/tlog-proof@v1\nindex {index}\n{lines}\n{self.checkpoint(size)}"


def read_checkpoint(text: str, verifier_key: str) -> tuple[int, bytes]:
    """Return size and root of a checkpoint that this key signed."""
    body, signatures = text.split("\n\n")
    origin, size, root = body.split("\n")
    name, key_id, encoded = verifier_key.split("+", 2)
    assert origin == name
    (line,) = [
        line
        for line in signatures.split("\n")
        if line.startswith(f"— {name} ")
        and base64.b64decode(line.split(" ")[2])[:4].hex() == key_id
    ]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    key.verify(base64.b64decode(line.split(" ")[2])[4:], f"{body}\n".encode())
    return int(size), base64.b64decode(root)


def check_logged(leaf: bytes, proof: str, verifier_key: str) -> int:
    """Return the index at which the log of this key provably holds the leaf."""
    head, _, checkpoint = proof.partition("\n\n")
    first, index_line, *encoded = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    word, number = index_line.split(" ")
    assert word == "index"
    size, root = read_checkpoint(checkpoint, verifier_key)
    path = [base64.b64decode(each) for each in encoded]
    assert climb(hash_leaf(leaf), int(number), size, path) == root, "the leaf is not in the log"
    return int(number)


def climb(node: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that a path leads to: PATH read backwards."""
    assert 0 <= index < size
    if size == 1:
        assert not path, "the path is too long"
        return node
    assert path, "the path is too short"
    *below, sibling = path
    k = split(size)
    if index < k:
        pair = climb(node, index, k, below) + sibling
    else:
        pair = sibling + climb(node, index - k, size - k, below)
    return hashlib.sha256(b"\x01" + pair).digest()
