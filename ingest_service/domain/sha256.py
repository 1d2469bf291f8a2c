"""SHA-256 that can be laid down and taken up again by another process.

hashlib cannot export its state. Two back ends can: the libcrypto that hashlib itself links,
through ctypes (as fast as hashlib, releases the GIL), and the `rehashes` wheel where libcrypto's
symbols are hidden. What is stored is neither's struct but a canonical mid-state that both load:

    magic 4 | H[0..7] big-endian 32 | length u64 big-endian 8 | tail (length mod 64) | check 4

The check value is the first 4 bytes of SHA-256 over all before it: a torn state is refused.
"""

import _hashlib
import ctypes
import hashlib
import struct
from functools import cache
from typing import Final, Protocol, Self

import rehashes

_MAGIC: Final = b"S2M1"
_BLOCK: Final = 64
_FIXED: Final = len(_MAGIC) + 32 + 8
_CHECK: Final = 4


class RunningSha256(Protocol):
    """A SHA-256 in progress."""

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes."""
        ...

    def export(self) -> bytes:
        """Return the canonical mid-state: 48 to 111 bytes."""
        ...

    def digest(self) -> bytes:
        """Return the 32-byte digest of everything so far; more may follow."""
        ...


class BrokenState(ValueError):
    """The stored mid-state cannot be loaded; the clip must be re-read to be hashed."""


def start_sha256() -> RunningSha256:
    """Return a fresh running hash of the fastest back end that passes its self-check."""
    return _backend()()


def resume_sha256(state: bytes | None) -> RunningSha256:
    """Return a running hash that goes on from an exported mid-state; None starts afresh.

    Raises:
        BrokenState: the bytes are not an undamaged mid-state.
    """
    return start_sha256() if state is None else _backend().load(state)


def backend_name() -> str:
    """Tell which back end hashes: 'libcrypto' or 'rehashes'."""
    return _backend().name


def _pack(words: tuple[int, ...], length_bytes: int, tail: bytes) -> bytes:
    state = _MAGIC + struct.pack(">8IQ", *words, length_bytes) + tail
    return state + hashlib.sha256(state).digest()[:_CHECK]


def _unpack(state: bytes) -> tuple[tuple[int, ...], int, bytes]:
    body, check = state[:-_CHECK], state[-_CHECK:]
    if len(state) < _FIXED + _CHECK or body[:4] != _MAGIC:
        message = "not a SHA-256 mid-state"
        raise BrokenState(message)
    if hashlib.sha256(body).digest()[:_CHECK] != check:
        message = "SHA-256 mid-state is damaged"
        raise BrokenState(message)
    *words, length_bytes = struct.unpack_from(">8IQ", body, len(_MAGIC))
    tail = body[_FIXED:]
    if len(tail) != length_bytes % _BLOCK:
        message = "SHA-256 mid-state has the wrong length"
        raise BrokenState(message)
    return tuple(words), length_bytes, tail


class LibcryptoSha256:
    """The libcrypto that `hashlib` links, through its SHA256_* functions."""

    name: Final = "libcrypto"
    # openssl/sha.h, SHA256_CTX: h[8], Nl, Nh, data[16], num, md_len; all native 32-bit words.
    _layout: Final = struct.Struct("=8I2I64s2I")

    def __init__(self) -> None:
        self._context = ctypes.create_string_buffer(self._layout.size)
        self._address = ctypes.addressof(self._context)
        _libcrypto().SHA256_Init(self._address)
        self._update = _libcrypto().SHA256_Update

    @classmethod
    def load(cls, state: bytes) -> Self:
        """Return a running hash from a canonical mid-state."""
        words, length_bytes, tail = _unpack(state)
        running = cls()
        bits = length_bytes * 8
        cls._layout.pack_into(
            running._context, 0, *words, bits & 0xFFFFFFFF, bits >> 32, tail, len(tail), 32
        )
        return running

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes; the GIL is released meanwhile."""
        if isinstance(block, memoryview):
            if block.readonly or not block.c_contiguous:
                self.update(bytes(block))
            elif block:
                start = ctypes.byref(ctypes.c_char.from_buffer(block))
                self._update(self._address, start, len(block))
        else:
            self._update(self._address, block, len(block))

    def export(self) -> bytes:
        """Return the canonical mid-state."""
        *words, low, high, data, held, _ = self._layout.unpack(self._context.raw)
        return _pack(tuple(words), (high << 32 | low) // 8, data[:held])

    def digest(self) -> bytes:
        """Return the digest so far, from a copy of the state."""
        context = ctypes.create_string_buffer(self._context.raw, self._layout.size)
        digest = ctypes.create_string_buffer(32)
        _libcrypto().SHA256_Final(ctypes.addressof(digest), ctypes.addressof(context))
        return digest.raw


class RehashesSha256:
    """The RustCrypto hash of the `rehashes` wheel."""

    name: Final = "rehashes"
    # h[8] and the count of whole blocks little-endian, then the position in a 63-byte buffer.
    _layout: Final = struct.Struct("<8IQB63s")

    def __init__(self) -> None:
        self._hash = rehashes.PySha256()

    @classmethod
    def load(cls, state: bytes) -> Self:
        """Return a running hash from a canonical mid-state."""
        words, length_bytes, tail = _unpack(state)
        running = cls()
        running._hash = rehashes.PySha256.deserialize(
            cls._layout.pack(*words, length_bytes // _BLOCK, len(tail), tail)
        )
        return running

    def update(self, block: bytes | memoryview) -> None:
        """Add bytes."""
        self._hash.update(bytes(block))

    def export(self) -> bytes:
        """Return the canonical mid-state."""
        *words, blocks, held, data = self._layout.unpack(bytes(self._hash.serialize()))
        return _pack(tuple(words), blocks * _BLOCK + held, data[:held])

    def digest(self) -> bytes:
        """Return the digest so far, from a copy of the state."""
        copy = rehashes.PySha256.deserialize(bytes(self._hash.serialize()))
        return bytes.fromhex(copy.finalize())


@cache
def _libcrypto() -> ctypes.CDLL:
    # dlopen of the extension module resolves symbols through its own dependencies, so this is
    # the very libcrypto that hashlib uses. CDLL (not PyDLL) releases the GIL in each call.
    library = ctypes.CDLL(_hashlib.__file__)
    library.SHA256_Init.argtypes = [ctypes.c_void_p]
    library.SHA256_Update.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.SHA256_Final.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return library


@cache
def _backend() -> type[LibcryptoSha256] | type[RehashesSha256]:
    for backend in (LibcryptoSha256, RehashesSha256):
        if passes_self_check(backend):
            return backend
    message = "no SHA-256 back end passes its self-check"
    raise RuntimeError(message)


def passes_self_check(backend: type[LibcryptoSha256] | type[RehashesSha256]) -> bool:
    """Tell whether a back end agrees with hashlib across an export and a load."""
    sample = bytes(range(256)) * 5
    try:
        for cut in (0, 1, 63, 64, 65, 1000):
            first = backend()
            first.update(sample[:cut])
            second = backend.load(first.export())
            second.update(sample[cut:])
            if second.digest() != hashlib.sha256(sample).digest():
                return False
    except (AttributeError, OSError, struct.error, ValueError):
        # Symbols hidden (python-build-standalone) or a struct that is not as expected.
        return False
    return True
