"""The paper's tables as data: methods as rows; radii, defenses or shares as columns."""

import json
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import Radius

GROUP = ["dataset", "attack", "learner", "defense", "rho_a", "rho_u", "protect", "preset"]
SECONDS = ["generation_seconds", "preparation_seconds", "training_seconds"]
CONTROLS = ("clean", "remainder", "random")
_UNTOLD = (Radius("0"), Radius("8/255"))


@dataclass(frozen=True)
class Entry:
    """Mean and standard deviation over seeds, in percent.

    `best` marks the column's lowest, `fewer` what has fewer seeds than others of the table.
    """

    mean: float
    std: float
    seeds: int
    best: bool
    fewer: bool

    def text(self, plus_minus: str) -> str:
        """Return `16.2`, or `16.2 +- 0.3` of several seeds, and ` (n=2)` where others have more."""
        spread = f"{plus_minus}{self.std:.1f}" if self.seeds > 1 else ""
        return f"{self.mean:.1f}{spread}" + (f" (n={self.seeds})" if self.fewer else "")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: what all its cells share.
        axis: what the columns are: `rho_a`, `defense` or `protect`.
        columns: radii, defenses, or percentages of protected images.
        rows: row name to one entry for each column; None where there is no cell.
    """

    title: str
    axis: str
    columns: list[str]
    rows: dict[str, list[Entry | None]]

    @property
    def headings(self) -> list[str]:
        """The columns in words."""
        words = {"rho_a": "rho_a {}", "defense": "{}", "protect": "{} protected"}
        return [words[self.axis].format(column) for column in self.columns]


def aggregate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group with setting, test_accuracy_mean, test_accuracy_std and seeds.

    The standard deviation is the sample's (n - 1), 0 for a single seed. Where only some
    classes are protected, protected_accuracy_mean and _std are of their test images. Seconds
    are means too: of making the noise, of the defense's work on the images, of training,
    each without compilation, on what `device` names.

    Raises:
        UserError: cells of one name that differ in more than the seed.
    """
    frame = frame.assign(rho_a=_one_spelling(frame["rho_a"]), rho_u=_one_spelling(frame["rho_u"]))
    rows = []
    for key, group in frame.groupby(GROUP, sort=False):
        row: dict[str, Any] = dict(zip(GROUP, key, strict=True))
        _refuse_mixture(row, group["setting"])
        row["setting"] = group["setting"].iloc[0]
        for kind in ("test_accuracy", "protected_accuracy"):
            values = group[kind].astype(float)
            if not values.isna().all():
                row[f"{kind}_mean"] = values.mean()
                row[f"{kind}_std"] = values.std(ddof=1) if len(values) > 1 else 0.0
        row["seeds"] = len(group)
        row |= {kind: round(float(group[kind].mean()), 2) for kind in SECONDS}
        rows.append(row | {"device": " + ".join(sorted(set(group["device"])))})
    return pd.DataFrame(rows)


def _refuse_mixture(row: dict[str, Any], settings: "pd.Series[str]") -> None:
    first, *others = settings.unique()
    differing = {name for other in others for name in differences(first, other)}
    if differing:
        cell = f"{row['attack']}, {row['defense']}, rho_a {row['rho_a']} on {row['dataset']}"
        raise UserError(
            f"cells called {cell} differ in more than the seed ({', '.join(sorted(differing))}): "
            "report one run by --plan KEY, or compare folders with one each"
        )


def differences(first: str, second: str) -> set[str]:
    """Return in what two settings differ, such as `poison.attack.version`."""
    one, other = (_leaves(json.loads(text)) for text in (first, second))
    return {name for name, _ in one.items() ^ other.items()}


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    """Return what a nest of objects holds, as `poison.attack.version` to its value."""
    if not isinstance(value, dict):
        return {name: str(value)}
    parts = (_leaves(item, f"{name}.{key}".lstrip(".")) for key, item in value.items())
    return dict(ChainMap(*parts))


def _one_spelling(radii: "pd.Series[str]") -> list[str]:
    """Return the radii with equal ones written alike, as the first of them is."""
    first: dict[Radius, str] = {}
    return [r if r.startswith("l2 ") else first.setdefault(Radius(r), r) for r in radii]


def tables(frame: pd.DataFrame) -> list[Table]:
    """Arrange results as papers do.

    Without a defense, and for a defense at several radii: a table over rho_a. Defenses at
    one radius stand side by side, and so do shares of protected images.
    """
    results = aggregate(frame)
    kinds = [k for k in ("test_accuracy", "protected_accuracy") if f"{k}_mean" in results]
    return [
        _table(axis, part, kind)
        for kind in kinds
        for axis, part in _parts(results.dropna(subset=f"{kind}_mean"))
    ]


def _parts(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what belongs into one table, with the axis of its columns."""
    for _, part in results.groupby(["dataset", "learner", "preset"], sort=False):
        whole, shared = part[part["protect"] == 1], part[part["protect"] != 1]
        plain = whole[whole["defense"] == "none"]
        single = []
        for defense, group in whole.groupby("defense", sort=False):
            if len(set(group["rho_a"])) > 1 or len(group) == len(part):
                yield "rho_a", group
            elif defense != "none":
                single.append(group)
        for rho_a, group in pd.concat([part[:0], *single]).groupby("rho_a", sort=False):
            yield "defense", pd.concat([plain[plain["rho_a"] == rho_a], group])
        for (name, radius), group in shared.groupby(["defense", "rho_a"], sort=False):
            alike = whole[(whole["defense"] == name) & (whole["rho_a"] == radius)]
            yield "protect", pd.concat([group, alike])


def _table(axis: str, part: pd.DataFrame, kind: str) -> Table:
    values = list(part[axis].unique())
    if axis != "defense":
        values.sort(key=lambda value: Radius(value).value if axis == "rho_a" else value)
    several = {str(attack): len(set(rho)) > 1 for attack, rho in part.groupby("attack")["rho_u"]}
    methods = part[~part["attack"].isin(CONTROLS)]
    # The best method is the lowest; where there are only controls, none is.
    lowest = methods.groupby(axis)[f"{kind}_mean"].min().to_dict()
    most = part["seeds"].max()
    rows: dict[str, list[Entry | None]] = {}
    results: list[dict[str, Any]] = part.to_dict("records")  # type: ignore[assignment]
    for row in sorted(results, key=lambda row: row["attack"] not in CONTROLS):
        attack, mean = row["attack"], row[f"{kind}_mean"]
        name = f"{attack}{_radius(row['rho_u'], told=several[attack])}"
        best = attack not in CONTROLS and mean == lowest[row[axis]]
        entry = Entry(mean, row[f"{kind}_std"], row["seeds"], best, row["seeds"] < most)
        rows.setdefault(name, [None] * len(values))[values.index(row[axis])] = entry
    columns = [f"{100 * v:g} %" for v in values] if axis == "protect" else values
    return Table(_title(axis, results[0], kind), axis, columns, rows)


def _radius(rho_u: str, *, told: bool) -> str:
    """Return the noise's radius for a row's name: where it is not the usual one, or others are."""
    norm, _, number = rho_u.partition(" ")
    if norm == "l2":
        return f" (l2 {float(number):.3g})"
    return f" ({rho_u})" if told or Radius(rho_u) not in _UNTOLD else ""


def _title(axis: str, row: dict[str, Any], kind: str) -> str:
    title = f"{row['dataset']}, {row['learner']}, {row['preset']} preset"
    if axis != "rho_a":
        title += f", rho_a {row['rho_a']}"
    if axis != "defense" and row["defense"] != "none":
        title += f", defense {row['defense']}"
    if kind == "protected_accuracy":
        title += ", test images of the protected classes"
    return title
