"""Classes by name: names may repeat, contain commas, or be empty."""

from collections.abc import Sequence

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.images import Data


def labels_of(data: Data, names: Sequence[str]) -> tuple[int, ...]:
    """Return the labels of the classes that `--protect-classes` names, ascending.

    Args:
        data: the data set.
        names: a class each, by its name or as `#LABEL`. Parts of one name with commas, split at
            the commas, count as this name. Blanks around names and commas have no meaning.

    Raises:
        UserError: an unknown name, or one that several classes have.
    """
    chosen, rest = set(), list(names)
    while rest:
        for count in range(1, len(rest) + 1):
            found = _named(data, ",".join(rest[:count]))
            if found:
                break
        else:
            raise unknown(f"class of {data.name}", rest[0], data.class_names)
        name = ",".join(rest[:count])
        if len(found) > 1:
            labels = " and ".join(map(str, found))
            raise UserError(
                f"{data.name} has {len(found)} classes with the name {name!r}, labels {labels}; "
                f"choose by label: --protect-classes '#{found[0]}'"
            )
        chosen.add(found[0])
        del rest[:count]
    return tuple(sorted(chosen))


def class_text(data: Data, label: int) -> str:
    """Return what names a class on the command line: its name, or `#LABEL` if that is not clear."""
    name = data.class_names[label]
    try:
        clear = labels_of(data, [part.strip() for part in name.split(",")]) == (label,)
    except UserError:
        clear = False
    return name if clear else f"#{label}"


def _named(data: Data, name: str) -> list[int]:
    """Return the labels of all classes of a name."""
    for same in (str, _plain):
        found = [k for k, other in enumerate(data.class_names) if same(other) == same(name)]
        if found and name.strip():
            return found
    number = name.strip().removeprefix("#")
    is_label = name.strip() != number and number.isascii() and number.isdecimal()
    if is_label and len(number) < 10 and int(number) < len(data.class_names):
        return [int(number)]
    return []


def _plain(name: str) -> str:
    return ",".join(part.strip() for part in name.split(","))
