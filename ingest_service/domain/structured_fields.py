"""Structured fields (RFC 9651), as far as uploads need them: strict, and without guessing.

Whatever is not well-formed is None: the drafts have such a field ignored as a whole.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

BareItem: TypeAlias = bool | int | float | str | bytes

_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])")
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BOOLEAN: Final = re.compile(r"\?([01])")


class _Malformed(ValueError):
    """Not a structured field."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def is_at_end(self) -> bool:
        return self._at == len(self._text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        matched = pattern.match(self._text, self._at)
        if matched is not None:
            self._at = matched.end()
        return matched

    def take_char(self, char: str) -> bool:
        if self._text.startswith(char, self._at):
            self._at += 1
            return True
        return False

    def skip(self, characters: str) -> None:
        while not self.is_at_end() and self._text[self._at] in characters:
            self._at += 1

    def key(self) -> str:
        matched = self.take(_KEY)
        if matched is None:
            raise _Malformed
        return matched[0]

    def bare_item(self) -> BareItem:
        if matched := self.take(_BOOLEAN):
            return matched[1] == "1"
        if matched := self.take(_DECIMAL):
            return float(matched[0])
        if matched := self.take(_INTEGER):
            return int(matched[0])
        if matched := self.take(_STRING):
            return re.sub(r"\\(.)", r"\1", matched[1])
        if matched := self.take(_BYTES):
            try:
                return base64.b64decode(matched[1], validate=True)
            except binascii.Error as error:
                raise _Malformed from error
        if matched := self.take(_TOKEN):
            return matched[0]
        raise _Malformed

    def parameters(self) -> None:
        """Parameters are read over: none of ours has a meaning."""
        while self.take_char(";"):
            self.skip(" ")
            self.key()
            if self.take_char("="):
                self.bare_item()

    def item(self) -> BareItem:
        value = self.bare_item()
        self.parameters()
        return value


def parse_boolean(text: str | None) -> bool | None:
    """Return an Item that is a Boolean; None when it is anything else."""
    value = _parse_item(text)
    return value if isinstance(value, bool) else None


def parse_length(text: str | None) -> int | None:
    """Return an Item that is an Integer of 0 or more; None when it is anything else."""
    value = _parse_item(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value


def _parse_item(text: str | None) -> BareItem | None:
    if text is None:
        return None
    scanner = _Scanner(text.strip(" "))
    try:
        value = scanner.item()
    except _Malformed:
        return None
    return value if scanner.is_at_end() else None


def parse_dictionary(text: str | None) -> dict[str, BareItem] | None:
    """Return a Dictionary of Items; None when it is absent, malformed or holds lists."""
    if text is None:
        return None
    scanner = _Scanner(text.strip(" "))
    found: dict[str, BareItem] = {}
    try:
        while not scanner.is_at_end():
            key = scanner.key()
            if scanner.take_char("="):
                found[key] = scanner.item()
            else:
                scanner.parameters()
                found[key] = True
            scanner.skip(" \t")
            if scanner.is_at_end():
                break
            if not scanner.take_char(","):
                return None
            scanner.skip(" \t")
            if scanner.is_at_end():
                return None
    except _Malformed:
        return None
    return found


def format_boolean(value: bool) -> str:  # noqa: FBT001 - it is the value
    """Return a Boolean Item."""
    return "?1" if value else "?0"


def format_dictionary(members: Mapping[str, int | bytes]) -> str:
    """Return a Dictionary of Integers and Byte Sequences."""
    return ", ".join(
        f"{key}=:{base64.b64encode(value).decode()}:"
        if isinstance(value, bytes)
        else f"{key}={value}"
        for key, value in members.items()
    )
