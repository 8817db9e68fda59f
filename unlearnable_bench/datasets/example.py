"""The features of a `tf.train.Example`, a message of protocol buffers.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

_FIXED = {1: 8, 5: 4}  # bytes of a number, by wire type
_VARINT, _BYTES = 0, 2  # wire types

Feature = list[bytes] | list[int]


def features(example: memoryview) -> dict[str, Feature]:
    """Return the features by name: lists of bytes or of integers, an empty list for floats.

    Args:
        example: a serialised `tf.train.Example`.

    Raises:
        ValueError: it is another message, or damaged.
    """
    # Example.features = 1, Features.feature = 1, which is a map of key = 1 and value = 2.
    entries = [dict(_fields(entry)) for inner in _inner(example, 1) for entry in _inner(inner, 1)]
    try:
        return {str(one[1], "utf-8"): _feature(one.get(2, b"")) for one in entries}  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise ValueError("it is no tf.train.Example") from error


def _feature(value: memoryview) -> Feature:
    """Return the list of a `tf.train.Feature`: bytes_list = 1, int64_list = 3, each value = 1."""
    held = [bytes(one) for inner in _inner(value, 1) for one in _inner(inner, 1)]
    if held:
        return held
    numbers: list[int] = []
    for one in (one for inner in _inner(value, 3) for n, one in _fields(inner) if n == 1):
        if isinstance(one, int):
            numbers.append(one)
            continue
        position = 0  # packed, as most writers do
        while position < len(one):
            number, position = _varint(one, position)
            numbers.append(number)
    return [n - (1 << 64) if n >> 63 else n for n in numbers]


def _inner(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the messages, texts or bytes of a field."""
    for found, value in _fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and value of each field, without floats."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"it has a field of the unknown type {kind}")
        if position + size > len(message):
            raise ValueError("it is cut off")
        if kind == _BYTES:
            yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, lowest first, and the position behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("it is cut off")
