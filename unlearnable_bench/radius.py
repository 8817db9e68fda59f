"""Radii such as `4/255` as a value type."""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import total_ordering

from unlearnable_bench.errors import UserError

# Norms that records write before the bound: `l2 1.3`, `l0 1`, `none`.
_NORMS = ("l2", "l0", "none")
_PATTERN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/([0-9]{1,9})")


def norm_and_bound(rho_u: str) -> tuple[str, str]:
    """Split a record's rho_u into norm and bound.

    Examples:
        >>> norm_and_bound("8/255"), norm_and_bound("l2 1.3")
        (('linf', '8/255'), ('l2', '1.3'))
    """
    norm, _, bound = rho_u.partition(" ")
    return (norm, bound) if norm in _NORMS else ("linf", rho_u)


@total_ordering
@dataclass(frozen=True, eq=False)
class Radius:
    """A radius in units of the pixel range [0, 1], printed as the user wrote it.

    Radii compare and hash by their exact value, a fraction.

    Args:
        text: `0`, or a fraction from 0 to 1 such as `4/255` or `0.5/255`.

    Attributes:
        value: the radius as a `Fraction`.

    Raises:
        UserError: `text` is not such a fraction.

    Examples:
        >>> from unlearnable_bench import Radius
        >>> radius = Radius("8/255")
        >>> str(radius), radius.levels, round(float(radius), 4)
        ('8/255', 8, 0.0314)
        >>> radius == Radius("16/510"), radius > Radius("4/255"), bool(Radius("0"))
        (True, True, False)
        >>> Radius("9")
        Traceback (most recent call last):
        unlearnable_bench.errors.UserError: '9' is not a radius; write 0 or a fraction such as 4/255
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
            raise UserError(
                f"the radius {text!r} is above 1, the whole pixel range; write K/255 with K at "
                "most 255"
            )
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "value", value)

    @property
    def levels(self) -> int:
        """Largest change of an 8-bit value that the radius allows, 0 to 255: floor(255 rho)."""
        return int(self.value * 255)

    def step_size(self, steps: int, given: "Radius | None" = None) -> float:
        """Return the step size of sign ascent or descent, in units of the pixel range.

        2 rho / steps, so that all steps together cross the ball: the rule of the REM and SEM
        code.

        Args:
            steps: number of steps.
            given: a step size that replaces the rule; None: the rule.

        Examples:
            >>> from unlearnable_bench import Radius
            >>> Radius("1/2").step_size(10)
            0.1
            >>> Radius("1/2").step_size(10, given=Radius("1/4"))
            0.25
        """
        return 2 * float(self) / steps if given is None else float(given)

    def exact_step(self, steps: int, given: "Radius | None" = None) -> Fraction:
        """Return what `step_size` rounds.

        Examples:
            >>> from unlearnable_bench import Radius
            >>> Radius("8/255").exact_step(20)
            Fraction(4, 1275)
        """
        return 2 * self.value / steps if given is None else given.value

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


USUAL_RHO_U = Radius("8/255")
"""Radius of the noise that rows of tables and messages do not name."""
