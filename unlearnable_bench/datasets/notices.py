"""What is said on stderr while data is loaded."""

from rich.console import Console


def stderr_console() -> Console:
    """Return a console that prints names literally and leaves the wrapping to the terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def notice(text: str) -> None:
    """Print one line; names may have control characters, which are replaced."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    stderr_console().print(line)
