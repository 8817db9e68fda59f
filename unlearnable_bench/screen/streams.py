"""Standard output and error of the command: what cannot be written there never ends its work."""

import codecs
import errno
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO

_READABLE = "unlearnable_bench.readable"


class Output(io.RawIOBase):
    """A binary stream that drops everything after an error of writing.

    Args:
        target: the stream behind it, which is not closed.
        name: its name, for the reason.

    Attributes:
        error: the first error, or None.
    """

    def __init__(self, target: Any, name: str) -> None:
        self._target, self._name = target, name
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return bool(self._target.isatty())

    def fileno(self) -> int:
        """Return the descriptor."""
        return int(self._target.fileno())

    def write(self, data: Any) -> int:
        """Write bytes, or drop them; return the number of those that are done with."""
        if self.error is None:
            try:
                written: int | None = self._target.write(data)
            except OSError as error:
                self.error = error
            else:
                if written is None:  # a reader that is slower, in non-blocking mode
                    time.sleep(0.01)
                return written or 0
        return len(data)

    @property
    def lost(self) -> str:
        """The reason why text was lost; empty if none was, or if its reader has left."""
        if self.error is None or self.error.errno == errno.EPIPE:
            return ""
        return f"{self._name} cannot be written ({self.error.strerror or self.error})"


@contextmanager
def guarded() -> Iterator[dict[str, Output]]:
    """Replace `sys.stdout` and `sys.stderr` by streams whose errors are kept, not raised.

    Characters that the encoding lacks are written as similar ones of ASCII.

    Yields:
        The streams by name; a name is missing if the stream cannot be replaced.
    """
    _open_missing()
    codecs.register_error(_READABLE, _readable)
    outputs: dict[str, Output] = {}
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream: TextIO | None = getattr(sys, name)
            if stream is None:  # closed by the shell: >&-
                stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            buffer = getattr(stream, "buffer", None)
            if buffer is None:
                continue
            output = outputs[name] = Output(getattr(buffer, "raw", buffer), name)
            try:
                stream.flush()
            except OSError as error:
                output.error = error
            text = io.TextIOWrapper(
                io.BufferedWriter(output),
                encoding=stream.encoding,
                errors=_READABLE,
                line_buffering=name == "stderr" or stream.isatty(),
            )
            stack.callback(setattr, sys, name, getattr(sys, name))
            stack.callback(text.flush)
            setattr(sys, name, text)
        yield outputs


def _open_missing() -> None:
    """Open descriptors that the shell closed, which the next opened file would get otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from anyascii import anyascii  # noqa: PLC0415 - rarely needed

    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(one) or anyascii(one) or "?" for one in lost), error.end


_PLAIN = {"±": "+/-"}
