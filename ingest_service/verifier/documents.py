"""Files that people kept, in any of the forms that they come in."""

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from ingest_service.domain.checkpoint import (
    PROOF_HEADER,
    SignedCheckpoint,
    parse_checkpoint,
    parse_proof,
)
from ingest_service.domain.merkle import HASH_BYTES
from ingest_service.domain.note import NoteInvalid, decode_base64
from ingest_service.domain.receipt import parse_leaf_proof
from schemas.log import GrowthProof

# Larger than any receipt; a video given by mistake is not read into memory.
BYTES_MAX: Final = 1024 * 1024


class DocumentUnreadable(ValueError):
    """The file is not what it should be; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The signed statement beside a JSON receipt's proof: its members as they came."""

    key_name: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """A receipt as it was kept; nothing of it is verified.

    leaf       exact bytes
    proof      None in receipts of before, which were a statement only
    log_index  what the JSON says beside the proof; None in the text form
    """

    leaf: bytes
    proof: str | None
    log_index: int | None
    statement: Statement | None


def read_receipt(content: bytes) -> KeptReceipt:
    """Read a receipt: JSON, as docks keep it, or text: the leaf's line and the proof.

    Raises:
        DocumentUnreadable: neither.
    """
    text = _decode(content)
    document = _find_object(text)
    if document is not None and isinstance(document.get("leaf"), str):
        return _read_json_receipt(document)
    leaf, proof = parse_leaf_proof(text)
    if not proof.startswith(PROOF_HEADER):
        message = "no receipt: neither JSON with a leaf, nor a leaf's line and its proof"
        raise DocumentUnreadable(message)
    return KeptReceipt(leaf, proof, None, None)


def _read_json_receipt(document: dict[str, Any]) -> KeptReceipt:
    leaf = document["leaf"].encode("utf-8", "surrogatepass")
    proof, log_index = document.get("proof"), document.get("log_index")
    if proof is not None and not isinstance(proof, str):
        message = "the receipt's proof is not text"
        raise DocumentUnreadable(message)
    names = [document.get(name) for name in ("key_name", "key_id", "signature")]
    statement = None
    if all(isinstance(each, str) for each in names):
        statement = Statement(str(names[0]), str(names[1]), _decode_base64(str(names[2])))
    return KeptReceipt(leaf, proof, log_index if isinstance(log_index, int) else None, statement)


def read_checkpoint(content: bytes) -> SignedCheckpoint:
    """Read the checkpoint of a file: a signed note, a proof, a receipt or a time stamp.

    Raises:
        DocumentUnreadable: there is none in it.
    """
    text = _decode(content)
    document = _find_object(text)
    try:
        if document is not None and isinstance(document.get("checkpoint"), str):
            return parse_checkpoint(document["checkpoint"])
        if document is None and PROOF_HEADER not in text:
            return parse_checkpoint(text)
        proof = text if text.startswith(PROOF_HEADER) else read_receipt(content).proof
        if proof is not None:
            return parse_proof(proof).signed
    except NoteInvalid as error:
        raise DocumentUnreadable(str(error)) from error
    message = "a receipt without a proof holds no checkpoint"
    raise DocumentUnreadable(message)


def find_token(content: bytes) -> bytes | None:
    """Return the time authority's answer inside a document of `/log/timestamp`; None without one.

    Raises:
        DocumentUnreadable: there is something in its place.
    """
    document = _find_object(_decode(content)) or {}
    token = document.get("token")
    return None if token is None else _decode_base64(str(token))


def read_growth(content: bytes) -> list[bytes]:
    """Read a consistency proof: JSON of `/log/consistency`, or one base64 hash a line.

    Raises:
        DocumentUnreadable: neither.
    """
    text = _decode(content)
    if _find_object(text) is None:
        lines = text.split()
    else:
        try:
            lines = GrowthProof.model_validate_json(text).path
        except ValidationError as error:
            message = "no consistency proof: JSON without sizes and path"
            raise DocumentUnreadable(message) from error
    path = [_decode_base64(line) for line in lines]
    if any(len(each) != HASH_BYTES for each in path):
        message = "a hash of the consistency proof does not have 32 bytes"
        raise DocumentUnreadable(message)
    return path


def _decode(content: bytes) -> str:
    if len(content) > BYTES_MAX:
        message = f"more than {BYTES_MAX} bytes: no document of this service"
        raise DocumentUnreadable(message)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = "not text in UTF-8"
        raise DocumentUnreadable(message) from error


def _find_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that the whole text is; None when it is none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _decode_base64(text: str) -> bytes:
    try:
        return decode_base64(text)
    except NoteInvalid as error:
        raise DocumentUnreadable(str(error)) from error
