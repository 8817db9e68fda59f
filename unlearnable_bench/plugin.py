"""What all plugins share: options, a version, a summary, and what attacks and defenses need."""

from typing import ClassVar, Literal, get_args

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import Configurable

Need = Literal[
    "nothing", "labels", "clean subset", "clean pairs", "pretrained weights", "undeclared"
]
"""What a method takes besides the training images: nothing; their labels; for a defense, clean
images of its own, or clean images with their poisoned form; weights trained on other data.
"undeclared" is the default, for plugins that do not say."""


class Plugin(Configurable):
    """Base of all plugins.

    Attributes:
        version: part of the key of every result that depends on the plugin.
    """

    version: ClassVar[str] = "1"

    def fingerprint(self) -> str | None:
        """Return a hash of data that options refer to, such as a file; part of the keys."""
        return None

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the docstring, which `ubench list` prints."""
        return first_line(cls.__doc__ or "")


def first_line(docstring: str) -> str:
    """Return the first line of a docstring."""
    return docstring.strip().split("\n")[0]


def check_needs(kind: str, name: str, needs: str) -> None:
    """Refuse an unknown declaration of what an attack or a defense needs.

    Args:
        kind: "attack" or "defense".
        name: name of its class.
        needs: its declaration.

    Raises:
        UserError: names what is allowed.
    """
    allowed = get_args(Need)
    if needs not in allowed:
        raise UserError(f"{kind} {name} declares needs = {needs!r}; allowed: {', '.join(allowed)}")
