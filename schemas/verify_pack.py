"""Check a custody pack, offline, with Python's standard library alone.

    python3 verify.py PACK.zip --key 'VERIFIER KEY' [--witness-key 'KEY']   (or an unpacked folder)

The verifier key is that of the ingest service's custody log. Get it from somewhere else than the
pack (the force publishes it): with the key inside the pack you only learn that the pack agrees
with itself. For the same reason run a copy of this file that did not come with the pack, or
compare its SHA-256. Every line says what was checked; the last one says how it ended.

Exit status: 0 everything holds; 1 something fails; 3 nothing fails, but something cannot be
shown; 2 the call makes no sense.

What is checked: that the pack is complete and unchanged since it was made (BagIt, RFC 8493); that
the recording is the one that was secured (SHA-256); that the events of its chain of custody are
gapless and each stands in the log (RFC 6962 and RFC 9162); that the log was signed (Ed25519, RFC
8032; notes as of c2sp.org/signed-note), and cosigned by the witnesses whose keys you give; that a
time stamp in it is over this log (RFC 3161). What is not: the time authority's signature, for
which the exact openssl command is printed; whether the camera filmed the truth; and
report.html, which explains and proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Sequence  # noqa: UP035 - runs on old Pythons too

HOLDS, FAILS, UNKNOWN = "holds", "fails", "not verifiable"
BLOCK_BYTES = 1 << 20
SMALL_BYTES_MAX = 64 << 20
TAG_MANIFEST = "tagmanifest-sha256.txt"
MANIFEST = "manifest-sha256.txt"
TAG_FILES = frozenset({"bagit.txt", "bag-info.txt", MANIFEST, "verify.py"})
CLIP_FOLDER = "data/clip/"
EVENTS = "data/events.jsonl"
CLIP_MANIFEST = "data/manifest.json"
CHECKPOINT = "data/checkpoint.txt"
KEY = "data/log-key.txt"
RECEIPT = "data/receipt.txt"
LINEAGE = "data/lineage.json"
DERIVED = "derivative.registered"
REPORT = "data/report.html"
PROOF = "data/proofs/{}.txt"
# A pack of many clips: below each of these a clip's files lie as in its own pack below data/.
CLIPS_FOLDER = "data/clips/"
CLIP_PLACE = CLIPS_FOLDER + "{}/"
DISCLOSURE = "data/disclosure.json"
STAMP_FOLDER = "data/timestamp/"
STAMPED = STAMP_FOLDER + "checkpoint-body.txt"
TOKEN = STAMP_FOLDER + "token.tsr"
CONSISTENCY = STAMP_FOLDER + "consistency.txt"
OPENSSL = f"openssl ts -verify -data {STAMPED} -in {TOKEN} -CAfile TSA-ROOT.pem"
COSIGNED = "the checkpoint is cosigned"
STAMP_SIGNED = "the time authority's signature"


class Flaw(Exception):
    """Something fails; the message says what."""


@dataclass
class Line:
    """One thing that was checked: holds, fails, or not verifiable."""

    verdict: str
    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict.upper()}: {self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass
class Result:
    """Everything that was checked, in order."""

    lines: list[Line] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The worst of all."""
        found = {line.verdict for line in self.lines}
        return FAILS if FAILS in found or not found else UNKNOWN if UNKNOWN in found else HOLDS


def verify_pack(path: Path, keys: Sequence[str] = (), witness_keys: Sequence[str] = ()) -> Result:
    """Check a pack: a zip file, or the folder that it was unpacked to.

    keys          verifier keys that the asker trusts; any of them may have signed
    witness_keys  those of witnesses; one of them at least must have cosigned, if any is given

    Raises:
        OSError: there is nothing to read.
    """
    result = Result()
    try:
        with open_pack(path) as pack:
            _check(pack, keys, witness_keys, result)
    except Flaw as flaw:
        result.lines.append(Line(FAILS, "the pack", str(flaw)))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        result.lines.append(Line(FAILS, "the pack", f"it cannot be read: {error}"))
    return result


def _check(pack: Pack, keys: Sequence[str], witness_keys: Sequence[str], result: Result) -> None:
    def run(what: str, check: Callable[[], str]) -> bool:
        try:
            result.lines.append(Line(HOLDS, what, check()))
        except Flaw as flaw:
            result.lines.append(Line(FAILS, what, str(flaw)))
        except Unknown as unknown:
            result.lines.append(Line(UNKNOWN, what, str(unknown)))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            result.lines.append(Line(FAILS, what, f"it cannot be read: {error!r}"))
        else:
            return True
        return False

    is_whole = run("the pack is complete and unchanged since it was made", lambda: _check_bag(pack))
    if DISCLOSURE in pack.names:
        run("the disclosure lists the clips of the pack", lambda: _check_disclosure(pack))
        for clip_id in pack.list_clips():

            def run_one(what: str, check: Callable[[], str], of: str = clip_id) -> bool:
                return run(f"clip {of}: {what}", check)

            _check_one(pack.within(clip_id), keys, witness_keys, run_one, is_whole=is_whole)
    else:
        _check_one(pack, keys, witness_keys, run, is_whole=is_whole)


def _check_one(
    pack: Pack,
    keys: Sequence[str],
    witness_keys: Sequence[str],
    run: Callable[[str, Callable[[], str]], bool],
    *,
    is_whole: bool,
) -> None:
    """Check one clip with what proves it."""
    chain = Chain(pack)
    log = Log(pack, keys)
    if not is_whole and not {EVENTS, CHECKPOINT, KEY} <= set(pack.names):
        return
    run("the chain of custody has no gap", chain.check)
    run("the log's checkpoint is signed", log.check_checkpoint)
    run("every event stands in the log", lambda: log.check_events(chain))
    run("the recording is the one of its events", lambda: _check_clip(pack, chain))
    run("the clip's manifest is the one of its events", lambda: _check_manifest(pack, chain))
    run("the release receipt", lambda: log.check_receipt(chain))
    if LINEAGE in pack.names or chain.mentions(DERIVED):
        run("the lineage is the one of its events", lambda: _check_lineage(pack, chain))
    if witness_keys or log.has_cosignatures():
        run(COSIGNED, lambda: log.check_cosignatures(witness_keys))
    is_stamped = any(name.startswith(STAMP_FOLDER) for name in pack.names)
    if is_stamped and run("the time stamp is over this log", lambda: log.check_timestamp(chain)):
        run(STAMP_SIGNED, lambda: _defer_to_openssl(pack))
    run("the log's key", log.check_key)


class Unknown(Exception):
    """Something cannot be shown; the message says why."""


# --- the files -------------------------------------------------------------------------------


class Pack:
    """The files of a pack by their names, wherever it is."""

    def __init__(self, names: Sequence[str], opener: Callable[[str], IO[bytes]]) -> None:
        if len(set(names)) != len(names):
            message = "two files have the same name"
            raise Flaw(message)
        self.names = sorted(names)
        self._open = opener

    def list_clips(self) -> list[str]:
        """Return the ids of the clips of a pack of many, by their folders."""
        return sorted(
            {
                name[len(CLIPS_FOLDER) :].partition("/")[0]
                for name in self.names
                if name.startswith(CLIPS_FOLDER)
            }
        )

    def within(self, clip_id: str) -> Pack:
        """Return the part of a pack of many that is one clip's, by the names of its own pack."""
        place = CLIP_PLACE.format(clip_id)
        names = ["data/" + name[len(place) :] for name in self.names if name.startswith(place)]
        return Pack(names, lambda name: self._open(place + name[len("data/") :]))

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes."""
        if name not in self.names:
            message = f"{name} is missing"
            raise Flaw(message)
        with self._open(name) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def read(self, name: str) -> bytes:
        """Return a small file."""
        data = bytearray()
        for block in self.blocks(name):
            data += block
            if len(data) > SMALL_BYTES_MAX:
                message = f"{name} is too large to be what its name says"
                raise Flaw(message)
        return bytes(data)

    def text(self, name: str) -> str:
        """Return a small text."""
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"{name} is not UTF-8"
            raise Flaw(message) from error

    def digest(self, name: str) -> tuple[str, int]:
        """Return SHA-256 (hex) and length of a file."""
        sha256, length = hashlib.sha256(), 0
        for block in self.blocks(name):
            sha256.update(block)
            length += len(block)
        return sha256.hexdigest(), length


class open_pack:  # noqa: N801 - used as a function
    """Open a zip file or a folder as a Pack, for a `with` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> Pack:
        if self._path.is_dir():
            root = self._path
            files = [each for each in sorted(root.rglob("*")) if not each.is_dir()]
            names = [each.relative_to(root).as_posix() for each in files]
            return Pack(names, lambda name: (root / name).open("rb"))
        self._zip = zipfile.ZipFile(self._path)
        try:
            return self._read_zip(self._zip)
        except Flaw:
            self._zip.close()
            raise

    def _read_zip(self, opened: zipfile.ZipFile) -> Pack:
        listed = [each.filename for each in opened.infolist() if not each.is_dir()]
        folders = {name.partition("/")[0] for name in listed}
        if len(folders) != 1 or not all("/" in name for name in listed):
            message = "the zip file does not hold one folder"
            raise Flaw(message)
        (top,) = folders
        return Pack(
            [name.partition("/")[2] for name in listed], lambda name: opened.open(f"{top}/{name}")
        )

    def __exit__(self, *_error: object) -> None:
        if self._zip is not None:
            self._zip.close()


def _check_bag(pack: Pack) -> str:
    """Check completeness and fixity (RFC 8493, section 3)."""
    declared = _read_lines(pack, "bagit.txt")
    if declared != ["BagIt-Version: 1.0", "Tag-File-Character-Encoding: UTF-8"]:
        message = "bagit.txt does not declare BagIt 1.0"
        raise Flaw(message)
    tags = _read_sums(pack, TAG_MANIFEST)
    payload = _read_sums(pack, MANIFEST)
    if set(tags) != TAG_FILES:
        message = f"{TAG_MANIFEST} lists other files than the tag files of a pack"
        raise Flaw(message)
    if not all(name.startswith("data/") for name in payload):
        message = f"{MANIFEST} lists files outside data/"
        raise Flaw(message)
    listed = {*tags, *payload, TAG_MANIFEST}
    for name in pack.names:
        if name not in listed:
            message = f"{name} is in the pack and on no list"
            raise Flaw(message)
    total = 0
    for sums, is_payload in ((tags, False), (payload, True)):
        for name, expected in sorted(sums.items()):
            found, length = pack.digest(name)
            total += length if is_payload else 0
            if found != expected:
                message = f"{name} is not what it was when the pack was made"
                raise Flaw(message)
    info = dict(line.split(": ", 1) for line in _read_lines(pack, "bag-info.txt"))
    if info.get("Payload-Oxum") != f"{total}.{len(payload)}":
        message = "the Payload-Oxum of bag-info.txt is of another payload"
        raise Flaw(message)
    return f"{len(payload)} files, {total} bytes"


def _check_disclosure(pack: Pack) -> str:
    """Check that the disclosure is of exactly these clips, and of these bytes."""
    listed = json.loads(pack.text(DISCLOSURE))["clips"]
    if sorted(each["clip_id"] for each in listed) != pack.list_clips():
        message = f"{DISCLOSURE} lists other clips than the pack has"
        raise Flaw(message)
    for each in listed:
        clip_id = each["clip_id"]
        if not each["file"].startswith(CLIP_PLACE.format(clip_id) + "clip/"):
            message = f"{DISCLOSURE} names another file than clip {clip_id}'s"
            raise Flaw(message)
        if pack.digest(each["file"]) != (each["sha256"], each["size_bytes"]):
            message = f"{DISCLOSURE} lists other bytes of clip {clip_id} than the pack has"
            raise Flaw(message)
        first = pack.read(CLIP_PLACE.format(clip_id) + "events.jsonl").partition(b"\n")[0]
        if json.loads(first)["clip_id"] != clip_id:
            message = f"the events in the folder of clip {clip_id} are of another clip"
            raise Flaw(message)
    return f"{len(listed)} clips"


def _read_lines(pack: Pack, name: str) -> list[str]:
    """Return the lines of a text; not by splitlines, which takes other characters for ends too."""
    text = pack.text(name)
    if not text.endswith("\n"):
        message = f"{name} ends within a line"
        raise Flaw(message)
    return text[:-1].split("\n")


def _read_sums(pack: Pack, name: str) -> dict[str, str]:
    sums: dict[str, str] = {}
    for line in _read_lines(pack, name):
        digest, space, listed = line.partition("  ")
        if not space or len(digest) != 64 or listed in sums:  # noqa: PLR2004 - hex digits
            message = f"{name} cannot be read: {line[:100]}"
            raise Flaw(message)
        sums[listed] = digest
    return sums


# --- the events ------------------------------------------------------------------------------


def hash_leaf(leaf: bytes) -> bytes:
    """Return the hash of a leaf (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


class Chain:
    """The events of the clip: each leaf is one line, byte for byte as it was hashed."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._leaves: list[bytes] | None = None

    @property
    def leaves(self) -> list[bytes]:
        """The leaves in order."""
        if self._leaves is None:
            data = self._pack.read(EVENTS)
            if not data.endswith(b"\n"):
                message = f"{EVENTS} ends within an event"
                raise Flaw(message)
            self._leaves = data[:-1].split(b"\n")
        return self._leaves

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the leaves say."""
        return [json.loads(leaf) for leaf in self.leaves]

    def check(self) -> str:
        """Check that each event continues the one before it, from the first on."""
        events, previous = self.events, None
        clip_id = events[0]["clip_id"]
        for number, event in enumerate(events):
            if event["clip_id"] != clip_id or clip_id is None:
                message = f"event {number} is of another clip"
                raise Flaw(message)
            if event["clip_seq"] != number:
                message = f"event {number} has the number {event['clip_seq']}"
                raise Flaw(message)
            if event["prev"] != previous:
                message = f"event {number} does not continue the one before it"
                raise Flaw(message)
            previous = hash_leaf(self.leaves[number]).hex()
        return f"{len(events)} events of clip {clip_id}"

    def mentions(self, event_type: str) -> bool:
        """Tell whether there seems to be an event of this type; nothing is checked."""
        try:
            return any(f'"type":"{event_type}"'.encode() in leaf for leaf in self.leaves)
        except Flaw:
            return False

    def last(self, *types: str) -> dict[str, Any] | None:
        """Return the newest event of these types."""
        return next((each for each in reversed(self.events) if each["type"] in types), None)


def _check_clip(pack: Pack, chain: Chain) -> str:
    files = [name for name in pack.names if name.startswith(CLIP_FOLDER)]
    if len(files) != 1:
        message = f"there are {len(files)} files in {CLIP_FOLDER}"
        raise Flaw(message)
    digest, length = pack.digest(files[0])
    secured = chain.last("clip.secured")
    if secured is None:
        message = "the clip was not secured: no event says which bytes came back from storage"
        raise Unknown(message)
    facts = secured["facts"]
    if facts["sha256"] != digest or facts["sha256_readback"] != digest:
        message = f"{files[0]} has the SHA-256 {digest}, its events say {facts['sha256']}"
        raise Flaw(message)
    if facts["size_bytes"] != length or facts["clip_id"] != secured["clip_id"]:
        message = f"{files[0]} has {length} bytes, its events say {facts['size_bytes']}"
        raise Flaw(message)
    return f"SHA-256 {digest}, {length} bytes, secured at {facts['secured_at']}"


def _check_manifest(pack: Pack, chain: Chain) -> str:
    named = [
        event["facts"]["manifest_sha256"]
        for event in chain.events
        if "manifest_sha256" in event["facts"]
    ]
    if CLIP_MANIFEST not in pack.names and not named:
        message = "the clip has none"
        raise Unknown(message)
    if not named:
        message = "no event names it"
        raise Flaw(message)
    digest, _ = pack.digest(CLIP_MANIFEST)
    if digest != named[-1]:
        message = f"it has the SHA-256 {digest}, its events say {named[-1]}"
        raise Flaw(message)
    return f"SHA-256 {digest}"


def _check_lineage(pack: Pack, chain: Chain) -> str:
    """Check what the clip was made from, and what was made from it, against its events."""
    listed = json.loads(pack.text(LINEAGE))
    clip_id = chain.events[0]["clip_id"]
    told = {
        event["facts"]["derivative_id"]: event["facts"]
        for event in chain.events
        if event["type"] == DERIVED
    }
    secured = chain.last("clip.secured")
    own = None if secured is None else secured["facts"]["sha256"]
    count = late = 0
    for name, role, its_id, its_hash in (
        ("derived_from", "derivative", "derivative_clip_id", "sha256"),
        ("derivatives", "master", "master_clip_id", "master_sha256"),
    ):
        for each in listed[name]:
            count += 1
            if each[its_id] != clip_id or (own is not None and each[its_hash] != own):
                message = f"{each['derivative_id']} is of another clip, or of other bytes"
                raise Flaw(message)
            facts = told.pop(each["derivative_id"], None)
            if facts is None:
                late += 1
            elif facts["role"] != role or not _is_as_told(each, facts):
                message = f"{each['derivative_id']} is not what its event says"
                raise Flaw(message)
    if told:
        message = f"{LINEAGE} leaves out {', '.join(sorted(told))}"
        raise Flaw(message)
    if late:
        message = f"{late} of {count} were registered after the checkpoint of this pack"
        raise Unknown(message)
    return f"{count} derivations"


def _is_as_told(listed: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Tell whether an entry of the lineage is what its event says, parameters included."""
    # RFC 8785: names are ASCII, numbers are whole and small.
    parameters = json.dumps(
        listed["parameters"], ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    salt = bytes.fromhex(listed["derivative_id"].replace("-", ""))
    if facts["parameters_sha256"] != hashlib.sha256(salt + parameters.encode()).hexdigest():
        return False
    return all(
        listed.get(name) == value
        for name, value in facts.items()
        if name not in ("role", "parameters_sha256")
    )


# --- the log ---------------------------------------------------------------------------------


@dataclass
class VerifierKey:
    """A key of a log: name, 4 bytes of id, 32 bytes of Ed25519 public key."""

    name: str
    key_id: bytes
    public_key: bytes


def parse_key(text: str, kind: int = 1) -> VerifierKey:
    """Read `<name>+<8 hex digits>+<base64>` (c2sp.org/signed-note); kind 4 is a witness's."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    typed = base64.b64decode(encoded, validate=True)
    if not name or len(typed) != 33 or typed[0] != kind:  # noqa: PLR2004 - type byte and key
        message = f"{name} has no verifier key of type {kind}"
        raise Flaw(message)
    expected = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    if key_id != expected.hex():
        message = "the id in the verifier key does not belong to it"
        raise Flaw(message)
    return VerifierKey(name, expected, typed[1:])


class Log:
    """The checkpoint, the proofs that lead to it, and the keys that may have signed it."""

    def __init__(self, pack: Pack, keys: Sequence[str]) -> None:
        self._pack = pack
        self._keys = keys
        self._signed: dict[str, tuple[int, bytes]] = {}

    def check_key(self) -> str:
        """Say under whose key all this holds."""
        if self._keys:
            return "the one you gave"
        message = (
            "no --key was given, so the one in the pack was used: "
            f"compare it with the published one: {self._pack.text(KEY).strip()}"
        )
        raise Unknown(message)

    def check_checkpoint(self) -> str:
        """Check the signature of the checkpoint; the pack's own key must be one of those given."""
        inside = self._pack.text(KEY).split()
        if self._keys and not set(inside) & {key.strip() for key in self._keys}:
            message = "the key in the pack is not the one you gave"
            raise Flaw(message)
        size, _ = self._open(self._pack.text(CHECKPOINT))
        return f"{size} events under {parse_key(inside[0]).name}"

    def check_events(self, chain: Chain) -> str:
        """Check that each leaf stands in the log, at an index of its own, in order."""
        checkpoint, before = self._pack.text(CHECKPOINT), -1
        expected = {PROOF.format(number) for number in range(len(chain.leaves))}
        there = {name for name in self._pack.names if name.startswith("data/proofs/")}
        if there != expected:
            message = f"there are {len(there)} proofs of {len(expected)} events"
            raise Flaw(message)
        for number, leaf in enumerate(chain.leaves):
            index, text = self._check_proof(leaf, self._pack.text(PROOF.format(number)))
            if text != checkpoint:
                message = f"the proof of event {number} is under another checkpoint"
                raise Flaw(message)
            if index <= before:
                message = f"event {number} stands before the one that it follows"
                raise Flaw(message)
            before = index
        return f"{len(chain.leaves)} proofs"

    def check_receipt(self, chain: Chain) -> str:
        """Check the receipt: the leaf of clip.secured on one line, and its proof."""
        secured = chain.last("clip.secured")
        if secured is None:
            if RECEIPT in self._pack.names:
                message = "there is one of a clip that was not secured"
                raise Flaw(message)
            message = "there is none: the clip was not secured"
            raise Unknown(message)
        leaf, newline, proof = self._pack.read(RECEIPT).partition(b"\n")
        if not newline or leaf != chain.leaves[secured["clip_seq"]]:
            message = "it is not of this clip's clip.secured event"
            raise Flaw(message)
        index, _ = self._check_proof(leaf, proof.decode())
        return f"index {index} of the log"

    def has_cosignatures(self) -> bool:
        """Tell whether others than the log have signed the checkpoint; nothing is checked."""
        try:
            return bool(self._name_cosigners())
        except (Flaw, ValueError, IndexError):
            return False

    def _name_cosigners(self) -> list[str]:
        text = self._pack.text(CHECKPOINT)
        origin, lines = text.split("\n", 1)[0], _split_signatures(text)
        return [name for name, _ in lines if name != origin]

    def check_cosignatures(self, witness_keys: Sequence[str]) -> str:
        """Check the cosignatures of known witnesses (c2sp.org/tlog-cosignature)."""
        names = self._name_cosigners()
        if not witness_keys:
            message = f"by {', '.join(names)}: no --witness-key was given; ask them for theirs"
            raise Unknown(message)
        text = self._pack.text(CHECKPOINT)
        body, found = text.partition("\n\n")[0] + "\n", []
        for key in [parse_key(each, kind=4) for each in witness_keys]:
            for name, blob in _split_signatures(text):
                if (name, blob[:4]) != (key.name, key.key_id):
                    continue
                time_s = int.from_bytes(blob[4:12], "big")
                signed = f"cosignature/v1\ntime {time_s}\n{body}".encode()
                if not is_signed(key.public_key, signed, blob[12:]):
                    flaw = f"the cosignature of {name} is false"
                    raise Flaw(flaw)
                found.append(f"{name} at {_show_time(time_s)}")
        if not found:
            flaw = "none of the witnesses that you named has cosigned it"
            raise Flaw(flaw)
        return f"by {', '.join(found)}"

    def check_timestamp(self, chain: Chain) -> str:
        """Check that the token is over a checkpoint that fits the pack's own."""
        size, root = self._open(self._pack.text(CHECKPOINT))
        stamped = self._pack.read(STAMPED)
        origin, number, encoded, *rest = stamped.decode().split("\n")
        if rest != [""] or origin != self._pack.text(CHECKPOINT).split("\n", 1)[0]:
            message = "what is stamped is not a checkpoint of this log"
            raise Flaw(message)
        stamped_size, stamped_root = _read_number(number), base64.b64decode(encoded, validate=True)
        lines = self._pack.text(CONSISTENCY).split("\n")[:-1]
        path = [base64.b64decode(line, validate=True) for line in lines]
        ends = sorted([(stamped_size, stamped_root), (size, root)])
        if not is_prefix(*ends[0], *ends[1], path):
            message = "the stamped log is not the one of this pack"
            raise Flaw(message)
        imprint, claimed = read_token(self._pack.read(TOKEN))
        if imprint != hashlib.sha256(stamped).digest():
            message = "the token is over something else"
            raise Flaw(message)
        covered = 0
        for at in range(len(chain.leaves)):
            index, _ = self._check_proof(chain.leaves[at], self._pack.text(PROOF.format(at)))
            covered += index < stamped_size
        return f"the first {covered} events are not younger than {claimed}, on the authority's word"

    def _check_proof(self, leaf: bytes, text: str) -> tuple[int, str]:
        """Check a tlog-proof@v1; return index and checkpoint."""
        head, _, checkpoint = text.partition("\n\n")
        lines = [line for line in head.split("\n") if not line.startswith("extra ")]
        if lines[0] != "c2sp.org/tlog-proof@v1" or not lines[1].startswith("index "):
            message = "it is not a tlog-proof@v1"
            raise Flaw(message)
        index = _read_number(lines[1][len("index ") :])
        path = [base64.b64decode(line, validate=True) for line in lines[2:]]
        size, root = self._open(checkpoint)
        if root_from(hash_leaf(leaf), index, size, path) != root:
            message = f"leaf {index} is not in the log that was signed"
            raise Flaw(message)
        return index, checkpoint

    def _open(self, text: str) -> tuple[int, bytes]:
        """Return size and root of a checkpoint that one of the keys has signed."""
        if text not in self._signed:
            keys = [parse_key(key) for key in self._keys or self._pack.text(KEY).split()]
            self._signed[text] = _open_checkpoint(text, keys)
        return self._signed[text]


def _open_checkpoint(text: str, keys: Sequence[VerifierKey]) -> tuple[int, bytes]:
    body, blank, _ = text.partition("\n\n")
    lines = body.split("\n")
    root = base64.b64decode(lines[2], validate=True)
    if not blank or len(root) != 32:  # noqa: PLR2004 - SHA-256
        message = "it is not a checkpoint"
        raise Flaw(message)
    for name, blob in _split_signatures(text):
        for key in keys:
            is_its = (name, blob[:4], lines[0]) == (key.name, key.key_id, key.name)
            if is_its and is_signed(key.public_key, (body + "\n").encode(), blob[4:]):
                return _read_number(lines[1]), root
    message = "the checkpoint is not signed by the log's key"
    raise Flaw(message)


def _split_signatures(text: str) -> list[tuple[str, bytes]]:
    """Return name and blob of each signature line of a note."""
    found = []
    for line in text.partition("\n\n")[2].removesuffix("\n").split("\n"):
        dash, name, encoded = line.split(" ")
        if dash != "\u2014":
            message = "a signature line of the checkpoint cannot be read"
            raise Flaw(message)
        found.append((name, base64.b64decode(encoded, validate=True)))
    return found


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or text != str(int(text)):
        message = f"{text[:40]} is not a number"
        raise Flaw(message)
    return int(text)


def root_from(node: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an audit path leads to; None if it fits no tree of that size.

    RFC 9162, section 2.1.3.2.
    """
    if index >= size:
        return None
    last = size - 1
    for sibling in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def is_prefix(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Tell whether a path shows that the older log is the beginning of the newer one.

    RFC 9162, section 2.1.4.2.
    """
    if old_size == new_size:
        return not path and old_root == new_root
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if old_size < 1 or not steps:
        return False
    index, last = old_size - 1, new_size - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            old = hashlib.sha256(b"\x01" + step + old).digest()
            new = hashlib.sha256(b"\x01" + step + new).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = hashlib.sha256(b"\x01" + new + step).digest()
        index, last = index >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


# --- time stamps (RFC 3161), as far as they can be read without X.509 ------------------------

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_SHA256 = bytes.fromhex("608648016503040201")


def read_token(answer: bytes) -> tuple[bytes, str]:
    """Return the SHA-256 that an authority's answer is over, and the time that it states.

    TimeStampResp -> timeStampToken -> SignedData -> TSTInfo; nothing is believed for it.
    """
    (response,) = _split_der(answer)
    _, token = _split_der(response)
    kind, signed = _split_der(token)
    _, _, wrapped, *_ = _split_der(*_split_der(signed))
    content_kind, content = _split_der(wrapped)
    if kind != _SIGNED_DATA or content_kind != _TST_INFO:
        message = "the token is not a time stamp"
        raise Flaw(message)
    _, _, imprint, _, moment, *_ = _split_der(*_split_der(*_split_der(content)))
    algorithm, digest = _split_der(imprint)
    if _split_der(algorithm)[0] != _SHA256:
        message = "the token is not over a SHA-256"
        raise Flaw(message)
    claimed = moment.decode("ascii")
    return digest, f"{claimed[:4]}-{claimed[4:6]}-{claimed[6:8]}T{claimed[8:10]}:{claimed[10:12]}Z"


def _split_der(data: bytes) -> list[bytes]:
    """Return the contents of the elements that stand one after the other (X.690, DER)."""
    found, at = [], 0
    while at < len(data):
        length, at = data[at + 1], at + 2
        if length >= 0x80:  # noqa: PLR2004 - the long form: so many bytes of length follow
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + length > len(data):
            message = "the token is cut off"
            raise Flaw(message)
        found.append(data[at : at + length])
        at += length
    return found


def _show_time(time_s: int) -> str:
    moment = datetime.fromtimestamp(time_s, timezone.utc)  # noqa: UP017 - runs on old Pythons too
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _defer_to_openssl(pack: Pack) -> str:
    """Say how to check what X.509 is needed for; the token itself was read before."""
    _, claimed = read_token(pack.read(TOKEN))
    message = (
        f"it says {claimed}. With the authority's root certificate, which comes from the "
        f"authority, run in the pack's folder: {OPENSSL}"
    )
    raise Unknown(message)


# --- Ed25519 (RFC 8032, section 5.1.7), in whole numbers -------------------------------------

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]  # x, y, z, t: extended coordinates


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _multiply(number: int, p: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, p)
        p, number = _add(p, p), number >> 1
    return total


def _find_x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_M1 % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def _decode_point(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    x = _find_x(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % P)


_BASE_Y = 4 * pow(5, -1, P) % P
_BASE_X = _find_x(_BASE_Y, 0) or 0
BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)


def is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether this is the key's signature of the message."""
    if len(public_key) != 32 or len(signature) != 64:  # noqa: PLR2004 - RFC 8032
        return False
    key, commitment = _decode_point(public_key), _decode_point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    left, right = _multiply(scalar, BASE), _add(commitment, _multiply(challenge, key))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (
        left[1] * right[2] - right[1] * left[2]
    ) % P == 0


# --- the command -----------------------------------------------------------------------------


def _take(words: list[str], option: str) -> list[str]:
    found = []
    while option in words[:-1]:
        at = words.index(option)
        found.append(words[at + 1])
        del words[at : at + 2]
    return found


def main(arguments: Sequence[str]) -> int:
    """Check what the command line names; return the exit status."""
    words = list(arguments)
    keys, witness_keys = _take(words, "--key"), _take(words, "--witness-key")
    if len(words) != 1 or words[0].startswith("-"):
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        result = verify_pack(Path(words[0]), keys, witness_keys)
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return 2
    for line in result.lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"\n{words[0]}: {result.verdict}\n")
    return {HOLDS: 0, FAILS: 1}.get(result.verdict, 3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
