"""Names as text that is safe to print on a terminal."""

import re
import unicodedata

# Colours, cursor movement, window titles and links of a terminal.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\|$)|[@-Z\\^_]?)")
# Joiners are part of words in Persian and Hindi, and of emoji.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Return text on one line, without control characters, escape sequences and bidi overrides.

    A byte of a file name that is not text (a lone surrogate) becomes `\ufffd`.
    """
    text = _ESCAPE.sub("", text)
    return " ".join("".join(map(_one, text)).split())


def _one(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in ("Cc", "Zl", "Zp"):
        return " " if letter.isspace() else ""
    if category == "Cs":
        return "\ufffd"
    return "" if category == "Cf" and letter not in _JOINERS else letter
