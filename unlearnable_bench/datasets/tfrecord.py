"""The records of a TFRecord file, read without TensorFlow.

A record is its length (uint64, little-endian), a checksum of the length, the content, and a
checksum of the content. A checksum is CRC-32C, rotated and shifted by a constant (uint32).
https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError

_HEAD, _CRC = 12, 4  # bytes: length and its checksum; checksum of the content
_SHIFT = 0xA282EAD8


def _table() -> NDArray[np.uint32]:
    """Return what a byte does to CRC-32C: the reflected polynomial 0x1EDC6F41, eight times."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


_TABLE = _table()


def masked_crcs(
    data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return the checksum of each part of a file, as TFRecord stores it.

    Byte k of all parts is taken at once, since a loop over the bytes of a file would take minutes.

    Args:
        data: the file, uint8.
        starts: index of the first byte of each part.
        lengths: number of bytes of each part.
    """
    order = np.argsort(-lengths, kind="stable")
    begin, sizes = starts[order], lengths[order]
    crcs = np.full(len(order), 0xFFFFFFFF, np.uint32)
    longer = np.searchsorted(-sizes, -np.arange(sizes.max(initial=0)), side="left")
    for k, count in enumerate(longer):
        own = crcs[:count]
        crcs[:count] = _TABLE[(own ^ data[begin[:count] + k]) & 0xFF] ^ (own >> 8)
    crcs ^= np.uint32(0xFFFFFFFF)
    found = np.empty_like(crcs)
    found[order] = ((crcs >> 15) | (crcs << 17)) + np.uint32(_SHIFT)
    return found


def records(path: Path) -> list[memoryview]:
    """Return the content of each record of a file.

    Raises:
        UserError: the file is cut off, a checksum does not fit, or it is no TFRecord file.
    """
    content = path.read_bytes()
    data = np.frombuffer(content, np.uint8)
    starts: list[int] = []
    lengths: list[int] = []
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content[position : position + 8].ljust(8, b"\0"))
        if position + _HEAD + length + _CRC > len(content):
            kind = "is cut off" if _head_fits(data, position) else "is damaged or no TFRecord file"
            raise UserError(f"{path} {kind} at record {len(starts)}; copy it again")
        starts.append(position)
        lengths.append(length)
        position += _HEAD + length + _CRC
    at, sizes = np.array(starts, np.int64), np.array(lengths, np.int64)
    for begin, parts in ((at, np.full_like(at, 8)), (at + _HEAD, sizes)):
        stored = [struct.unpack_from("<I", content, end)[0] for end in begin + parts]
        wrong = np.flatnonzero(masked_crcs(data, begin, parts) != np.array(stored, np.uint32))
        if len(wrong):
            raise UserError(
                f"{path} is damaged at record {wrong[0]}: its checksum does not fit; copy it again"
            )
    view = memoryview(content)
    return [view[s + _HEAD : s + _HEAD + n] for s, n in zip(starts, lengths, strict=True)]


def _head_fits(data: NDArray[np.uint8], position: int) -> bool:
    """Return whether a length has its checksum, or the file ends before it."""
    if position + _HEAD > len(data):
        return position > 0
    stored = data[position + 8 : position + _HEAD].view("<u4")[0]
    one = np.array([position]), np.array([8])
    return bool(masked_crcs(data, *one)[0] == stored)
