"""Make mid_states.json: SHA-256 written out from FIPS 180-4, sharing no code with the service.

python make.py > mid_states.json
"""

import hashlib
import json
import sys
from math import isqrt


def root(n: int, k: int) -> int:
    """Return the first 32 bits of the fractional part of the k-th root of n (k = 2 or 3)."""
    if k == 2:
        return isqrt(n << 64) & 0xFFFFFFFF
    low, high = 0, 1 << 40
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= n << 96 else (low, middle - 1)
    return low & 0xFFFFFFFF


PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
K = [root(prime, 3) for prime in PRIMES]
H = [root(prime, 2) for prime in PRIMES[:8]]


def rotate(word: int, bits: int) -> int:
    return (word >> bits | word << 32 - bits) & 0xFFFFFFFF


def compress(state: list[int], block: bytes) -> list[int]:
    w = [int.from_bytes(block[i : i + 4], "big") for i in range(0, 64, 4)]
    for i in range(16, 64):
        s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & 0xFFFFFFFF)
    a, b, c, d, e, f, g, h = state
    for k, word in zip(K, w, strict=True):
        s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
        t1 = h + s1 + (e & f ^ ~e & g) + k + word
        s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
        t2 = s0 + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (t1 + t2) & 0xFFFFFFFF, a, b, c, (d + t1) & 0xFFFFFFFF, e, f, g
    return [(x + y) & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def mid_state(data: bytes) -> bytes:
    state = H
    whole = len(data) // 64 * 64
    for start in range(0, whole, 64):
        state = compress(state, data[start : start + 64])
    words = b"".join(word.to_bytes(4, "big") for word in state)
    body = b"S2M1" + words + len(data).to_bytes(8, "big") + data[whole:]
    return body + hashlib.sha256(body).digest()[:4]


def main() -> None:
    sample = bytes(range(256))
    more = b"and more"
    vectors = [
        {
            "name": f"{length} bytes",
            "data_hex": sample[:length].hex(),
            "state_hex": mid_state(sample[:length]).hex(),
            "more_hex": more.hex(),
            "digest_hex": hashlib.sha256(sample[:length] + more).hexdigest(),
        }
        for length in (0, 3, 63, 64, 65, 128, 200)
    ]
    json.dump(vectors, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
