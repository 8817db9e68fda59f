"""Checksums: each stored file holds the SHA-256 of all its other bytes.

The checksum is 64 hexadecimal digits after `sha256:`, computed with zeros in their place. In a JSON
file it is the field `checksum`, in a .safetensors file metadata of this name, in an .npz file the
comment of the archive. One flipped bit cannot make a file look like one without a checksum, as
versions before 0.3 wrote them: both the name and the prefix would have to change.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACEHOLDER = "sha256:" + 64 * "0"
"""Checksum of a file that is not sealed yet."""

_ZEROS = 64 * b"0"
# A raw newline is in no JSON string, so this is always the outermost object's field.
_LINE = b'\n "checksum": "sha256:'
_IN_HEADER = b'"checksum":"sha256:'
_TRACES = (b'"checksum"', b"sha256:")
# End of a zip archive with a comment of the length of `PLACEHOLDER`.
_ZIP_END = re.compile(rb"PK\x05\x06.{16}\x47\x00", re.DOTALL)
_DIGITS = re.compile(rb"[0-9a-f]{64}")
_MISMATCH = "its content does not match its checksum"


def sealed_json(fields: Mapping[str, Any]) -> str:
    r"""Return a JSON text with a checksum.

    Args:
        fields: the content, in JSON's types.

    Raises:
        ValueError: a number that is not finite.

    Examples:
        >>> text = sealed_json({"a": 1})
        >>> unsealed_json(text.encode())
        (b'{\n "a": 1\n}\n', True)
        >>> unsealed_json(text.replace("1", "2", 1).encode())
        Traceback (most recent call last):
        ValueError: its content does not match its checksum
    """
    text = _canonical(fields)
    field = text.index(_LINE.decode()) + len(_LINE)
    return text[:field] + hashlib.sha256(text.encode()).hexdigest() + text[field + 64 :]


def unsealed_json(text: bytes) -> tuple[bytes, bool]:
    """Return a JSON text without its checksum, and whether it has one.

    A file that another program formatted anew, with the same content, is accepted.

    Raises:
        ValueError: the content does not match, or is not JSON.
    """
    found = whole_json(text)
    if found is not None:
        return found, True
    if not any(trace in text for trace in _TRACES):
        return text, False
    return reformatted_json(text), True


def whole_json(text: bytes) -> bytes | None:
    """Return a text of `sealed_json` without its checksum, or None if it is not such a text."""
    start = text.find(_LINE) + len(_LINE)
    if start < len(_LINE):
        return None
    digits, rest = text[start : start + 64], text[start + 64 :]
    if hashlib.sha256(b"".join((text[:start], _ZEROS, rest))).hexdigest().encode() != digits:
        return None
    before = text[: start - len(_LINE)]
    return before + rest[2:] if rest[:2] == b'",' else before.removesuffix(b",") + rest[1:]


def reformatted_json(text: bytes) -> bytes:
    """Return a JSON text without its checksum, which its content must match in any layout.

    Raises:
        ValueError: the content does not match, or is not JSON.
    """
    try:
        fields = json.loads(text)
        digest = fields.pop("checksum")
        whole = hashlib.sha256(_canonical(fields).encode()).hexdigest()
        plain = json.dumps(fields).encode()
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(_MISMATCH) from error
    if digest != f"sha256:{whole}":
        raise ValueError(_MISMATCH)
    return plain


def seal_file(path: Path) -> None:
    """Put the checksum in place of the `PLACEHOLDER` of a binary file."""
    place = _place(path)
    if place is None:
        raise ValueError(f"{path} has no place for a checksum")
    digest = _digest(path, place)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(digest)


def check_file(path: Path) -> bool:
    """Return whether a binary file has a checksum.

    Raises:
        ValueError: the content does not match it, or it is not a regular file.
        OSError: the file cannot be read.
    """
    if not path.is_file() and path.exists():  # a pipe could be read for ever
        raise ValueError("it is not a regular file")
    place = _place(path)
    if place is None:
        return False
    with path.open("rb") as file:
        file.seek(place)
        digits = file.read(64)
    if digits != _digest(path, place):
        raise ValueError(_MISMATCH)
    return True


def _canonical(fields: Mapping[str, Any]) -> str:
    content = {**fields, "checksum": PLACEHOLDER}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _place(path: Path) -> int | None:
    """Return the position of the digits: in the header of safetensors, or at the end of a zip."""
    with path.open("rb") as file:
        start = file.read(9)
        # The length of a safetensors header can begin with the bytes "PK": 19280 does. Its upper
        # half is 0 and its JSON follows, where a zip has its version and method of compression.
        if start[:2] == b"PK" and start[4:8] != bytes(4) and start[8:] != b"{":
            file.seek(0, 2)
            digits = file.tell() - 64
            file.seek(max(0, digits - 29))
            end = file.read()
            if end[22:29] == b"sha256:" and _DIGITS.fullmatch(end, 29):
                return digits
            damaged = _ZIP_END.match(end) is not None
        else:
            # A damaged length must neither make this read all of a large file nor end before the
            # checksum, which is among the metadata at the start.
            length = int.from_bytes(start[:8], "little")
            header = start[8:] + file.read(min(max(length, 1 << 20), 1 << 26))
            at = header.find(_IN_HEADER) + len(_IN_HEADER)
            if at >= len(_IN_HEADER) and _DIGITS.fullmatch(header, at, at + 64):
                return 8 + at
            damaged = any(trace in header for trace in _TRACES)
    if damaged:
        raise ValueError(_MISMATCH)
    return None


def _digest(path: Path, place: int) -> bytes:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        sha.update(file.read(place))
        file.seek(64, 1)
        sha.update(_ZEROS)
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest().encode()
