r"""Any text in LaTeX, for pdflatex with its default fonts and any other engine.

The output is ASCII: accents and Greek are commands (`\'{e}`, `\alpha`), so it needs no input
encoding or font package. Other scripts are romanised by anyascii.
"""
# ruff: noqa: RUF001 - ambiguous letters are intended

import re
import unicodedata

# Letter widths of Computer Modern in points at \normalsize (10 pt), widest first.
_WIDTHS = {"WM@%": 10.3, "mwÆŒ": 8.4, "ABCDEFGHKNOPQRTUVXYZ&#": 7.6, "ijlI.,:;!|'()[]/ `": 3.7}
_WIDTHS |= {'rst-fJ"': 4.2, "0123456789": 5.1}
_OTHER = 5.6
_WIDE = 10.0  # an ideograph

_ASCII = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "{''}", "`": "{`}", "'": "{'}", "[": "{[}", "]": "{]}", "*": "{*}",
    "$": r"{\char36}",  # \$ is a bitmap of the font tcrm, as \S and \pounds are
    **{letter: "\\" + letter for letter in "&%#_{}"},
}  # fmt: skip
# Combining accents of the old encoding OT1; letters with other accents are romanised.
_ACCENTS = {
    0x300: "`", 0x301: "'", 0x302: "^", 0x303: "~", 0x304: "=", 0x306: "u", 0x307: ".",
    0x308: '"', 0x30A: "r", 0x30B: "H", 0x30C: "v", 0x323: "d", 0x327: "c", 0x331: "b",
}  # fmt: skip
_LETTERS = {
    "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}",
    "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "–": "--", "—": "---",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "∞": r"$\infty$", "≤": r"$\le$", "≥": r"$\ge$",
    "→": r"$\to$", "≈": r"$\approx$", "·": r"$\cdot$", "§": r"$\mathsection$",
    "…": r"\dots{}", "‘": "{`}", "’": "{'}", "“": "{``}", "”": "{''}", "\xa0": "~",
}  # fmt: skip
# Greek letters whose TeX name is not their Unicode name; capitals that look Latin are Latin.
_GREEK = {"lamda": "lambda", "epsilon": "varepsilon", "phi": "varphi", "final sigma": "varsigma"}
_GREEK_CAPITALS = {"lamda": "Lambda"}
_PLAIN_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lamda",
    "mu", "nu", "xi", "pi", "rho", "final sigma", "sigma", "tau", "upsilon", "phi", "chi", "psi",
    "omega",
}  # fmt: skip
_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧοµ", "ABEZHIKMNOPTXoμ", strict=True))
# Radii as in the papers: rho_a 4/255 is $\rho_a = 4/255$. An option of a method, such as sem.rho_a
# in SEM (rho_a=1/255), is printed as users write it, because it is not the radius of the learner.
_RADIUS = re.compile(r"(?<![A-Za-z0-9_])rho_([au])(?![A-Za-z0-9_=])(?:[ \xa0]?(\d+(?:/\d+)?))?")

_PIECE = re.compile(r"[^/=,_:#+-]{1,16}[/=,_:#+-]*|[/=,_:#+-]+")
_LONG_WORD = re.compile(r"(\S{21,})")


def latin(text: str, *, raw: bool = False) -> str:
    """Return text whose letters `escape` can all write.

    Args:
        text: printable text in any script.
        raw: whether to keep other scripts unchanged.
    """
    found = []
    for letter in unicodedata.normalize("NFC", text):
        known = _LIKE_LATIN.get(letter, letter)
        found.append(known if raw or _command(known) is not None else _romanised(known))
    return "".join(found) or ("?" if text else "")


def _romanised(letter: str) -> str:
    from anyascii import anyascii  # noqa: PLC0415 - most tables have no such letter

    # A letter or combining sign may have no transliteration; another symbol must not vanish.
    return str(anyascii(letter)) or ("" if unicodedata.category(letter)[0] in "LM" else "?")


def _command(letter: str) -> str | None:
    """Return the LaTeX of a letter, or None."""
    if letter in _LETTERS:
        return _LETTERS[letter]
    if letter.isascii():
        return _ASCII.get(letter, letter)
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if accents and (len(accents) > 1 or ord(accents[0]) not in _ACCENTS):
        return None
    base = _LIKE_LATIN.get(base, base)
    greek = _greek(base)
    if not accents:
        return greek and f"${greek}$"
    if greek is not None:
        # Math mode has these two; names need no other accent on Greek.
        accent = {0x301: "acute", 0x308: "ddot"}.get(ord(accents[0]))
        return accent and rf"$\{accent}{{{greek}}}$"
    return rf"\{_ACCENTS[ord(accents[0])]}{{{base}}}" if base.isascii() else None


def _greek(letter: str) -> str | None:
    r"""Return `\alpha` for the letter alpha; None for a letter that is not unaccented Greek."""
    kind, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    if kind not in ("GREEK SMALL", "GREEK CAPITAL") or name.lower() not in _PLAIN_GREEK:
        return None
    if kind == "GREEK CAPITAL":
        return rf"\{_GREEK_CAPITALS.get(name.lower(), name.capitalize())}"
    return rf"\{_GREEK.get(name.lower(), name.lower())}"


def escape(text: str) -> str:
    """Return text escaped for LaTeX; letters without a known command are unchanged."""
    found, start = [], 0
    for match in _RADIUS.finditer(text):
        found.append(_escape(text[start : match.start()]))
        number = f" = {match[2]}" if match[2] else ""
        found.append(rf"$\rho_{match[1]}{number}$")
        start = match.end()
    return "".join([*found, _escape(text[start:])])


def _escape(text: str) -> str:
    parts: list[str] = []
    for letter in text:
        command = _command(letter)
        # In some fonts, two hyphens are a ligature for a dash and two commas for a quotation mark.
        joined = letter in "-,?!" and parts and parts[-1].endswith(letter)
        parts.append(("{}" if joined else "") + (letter if command is None else command))
    return "".join(parts)


def breakable(text: str) -> str:
    """Return escaped text that may break after punctuation within a word, or in a long word."""
    found: list[str] = []
    start = 0
    for match in [*_RADIUS.finditer(text), None]:
        between = text[start : match.start() if match else None]
        found += map(escape, _PIECE.findall(between))
        if match:
            found.append(escape(match[0]))
            start = match.end()
    return r"\allowbreak{}".join(found)


def flowing(text: str) -> str:
    """Return escaped text for a paragraph whose long words may break, such as paths."""
    parts = _LONG_WORD.split(text)
    return "".join(breakable(part) if k % 2 else escape(part) for k, part in enumerate(parts))


def width(text: str) -> float:
    r"""Return an upper estimate of the width of text, in points at \normalsize."""
    # The equals sign in rho_a = 4/255 with its spaces is about as wide as an M.
    text = _RADIUS.sub(lambda match: "pa" + (f"M {match[2]}" if match[2] else ""), text)
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return _WIDE
    return next((wide for letters, wide in _WIDTHS.items() if letter in letters), _OTHER)
