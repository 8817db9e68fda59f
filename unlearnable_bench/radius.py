"""`4/255` as a value type."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import total_ordering

from unlearnable_bench.errors import UserError

# Norms that bound a noise, as a record writes them before the bound: `l2 1.3`, `l0 1`, `none`.
_NORMS = ("l2", "l0", "none")
_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/([0-9]{1,9})")


def norm_and_bound(rho_u: str) -> tuple[str, str]:
    """Part what a record calls rho_u: `8/255` is `linf` and `8/255`, `l2 1.3` is `l2` and `1.3`."""
    norm, _, bound = rho_u.partition(" ")
    return (norm, bound) if norm in _NORMS else ("linf", rho_u)


@total_ordering
@dataclass(frozen=True, eq=False)
class Radius:
    """A radius in units of the pixel range [0, 1], printed as the user wrote it.

    Radii compare by value: `Radius("4/255") == Radius("8/510")`.

    Args:
        text: `0`, or a fraction such as `4/255` or `0.5/255`, at most 1.

    Raises:
        UserError: `text` is no such fraction.
    """

    text: str = "0"
    value: Fraction = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = str(self.text).strip()
        match = _PATTERN.fullmatch(text)
        if text == "0":
            value = Fraction(0)
        elif match is None or int(match[2]) == 0:
            raise UserError(f"{text!r} is not a radius; write 0 or a fraction such as 4/255")
        else:
            value = Fraction(match[1]) / int(match[2])
        if value > 1:
            raise UserError(f"the radius {text!r} is above 1, the whole pixel range; write k/255")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "value", value)

    @property
    def levels(self) -> int:
        """The largest change of an 8-bit pixel value that the radius allows."""
        return int(self.value * 255)

    def step(self, steps: int, given: "Radius | None" = None) -> float:
        """Return the length of a step: as given, else so that all of them cross the ball.

        2 rho / steps is the rule of the REM and SEM code.
        """
        return 2 * float(self) / steps if given is None else float(given)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return self.value > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Radius) and self.value == other.value

    def __lt__(self, other: "Radius") -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return self.text
