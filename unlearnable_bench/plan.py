"""What is to be computed: noises, cells, plans, and what determines each."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

from unlearnable_bench.contract import Attack, Defense, Learner
from unlearnable_bench.errors import blaming
from unlearnable_bench.harness import Training
from unlearnable_bench.harness.core import Precision
from unlearnable_bench.identity import key_of
from unlearnable_bench.images import Data
from unlearnable_bench.protection import EVERYTHING, Protection
from unlearnable_bench.radius import Radius
from unlearnable_bench.registry import Chosen

# Raised when the harness or the training loop changes what the same settings mean.
PROTOCOL = 1


@dataclass(frozen=True)
class PoisonPlan:
    """One poison: a method, with a seed, on a data set.

    Attributes:
        attack: the method and its options.
        surrogate: the architecture that makes the noise.
        seed: of everything random in the method.
        precision: of the networks' arithmetic.
        training: the schedule of standard training, for a surrogate trained on clean images.
        data: the data set.
    """

    attack: Chosen[Attack]
    surrogate: Chosen[Learner]
    seed: int
    precision: Precision
    training: Training
    data: Data

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines the poison."""
        identity = {
            "protocol": PROTOCOL,
            "data": self.data.sha256,
            "transform": list(self.data.transform),
            "attack": self.attack.identity(),
            "seed": self.seed,
        }
        if self.attack.plugin.trains_surrogate:
            identity |= {"surrogate": self.surrogate.identity(), "precision": self.precision}
        if self.attack.plugin.uses_clean_network:
            identity |= {"training": self.training.used()}
        return identity

    @property
    def kept(self) -> bool:
        """Whether the folder keeps it: what takes no time is made anew for each cell."""
        return self.attack.plugin.trains_surrogate or self.attack.plugin.slow

    @cached_property
    def clean_network_key(self) -> str:
        """The address of the surrogate trained on the clean images."""
        return key_of(
            {
                "protocol": PROTOCOL,
                "data": self.data.sha256,
                "transform": list(self.data.transform),
                "network": self.surrogate.identity(),
                "training": self.training.used(),
                "precision": self.precision,
                "seed": self.seed,
            }
        )

    @cached_property
    def key(self) -> str:
        """The address of the poison in a results folder."""
        return key_of(self.identity)


@dataclass(frozen=True, repr=False)
class Cell:
    """One number of a table before the mean over seeds: a learner trained on a poison.

    Attributes:
        poison: what it is trained on.
        attack_label: the row's name.
        learner: the architecture.
        defense: what it does about poisons.
        rho_a: radius of adversarial training; 0 trains normally.
        training: the schedule.
        preset_label: name of the preset, with what the user changed.
        protection: which images carry the poison.
    """

    poison: PoisonPlan
    attack_label: str
    learner: Chosen[Learner]
    defense: Chosen[Defense]
    rho_a: Radius
    training: Training
    preset_label: str
    protection: Protection = EVERYTHING

    def __repr__(self) -> str:
        return f"<Cell {self.name}>"

    @property
    def name(self) -> str:
        """What progress and messages call the cell."""
        defense = "" if self.defense.name == "none" else f", {self.defense.label}"
        share = self.protection.share
        protect = "" if share == 1 else f", {100 * share:g} % protected"
        place = f"rho_a {self.rho_a}, seed {self.poison.seed}"
        return f"{self.attack_label}, {self.learner.label}{defense}{protect}, {place}"

    @property
    def images(self) -> int:
        """How many images the learner is trained on."""
        labels = self.poison.data.train.labels
        protection, seed = self.protection, self.poison.seed
        return len(labels) - (len(protection.chosen(labels, seed)) if protection.alone else 0)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines the result, and the labels under which it is shown."""
        identity = {
            "poison": self.poison.identity,
            "learner": self.learner.identity(),
            "defense": self.defense.identity(),
            "rho_a": self.rho_a,
            "training": self.training.used(),
            "precision": self.poison.precision,
            "labels": [self.poison.data.name, self.attack_label, self.preset_label],
        }
        if self.protection != EVERYTHING:
            identity["protection"] = asdict(self.protection)
        return identity

    @cached_property
    def key(self) -> str:
        """The address of the record in a results folder."""
        return key_of(self.identity)


@dataclass(frozen=True, repr=False)
class Plan:
    """The cells that a command asks for, in the order in which they are run."""

    data: Data
    preset_label: str
    cells: tuple[Cell, ...]

    def __repr__(self) -> str:
        return f"<Plan {self.key}: {len(self.cells)} cells on {self.data.name}>"

    @cached_property
    def key(self) -> str:
        """The address of the plan in a results folder."""
        return key_of({"cells": sorted(cell.key for cell in self.cells)})[:8]

    def image_passes(self) -> float | None:
        """Estimate forward-and-backward passes of single images, or None where unknown."""
        count = len(self.data.train)
        poisons = {cell.poison.key: cell.poison.attack for cell in self.cells}
        passes = []
        for attack in poisons.values():
            with blaming(f"attack {attack.name!r}"):
                passes.append(attack.plugin.image_passes(count))
        passes += [cell.training.image_passes(cell.images, cell.rho_a) for cell in self.cells]
        return None if None in passes else sum(cast("list[float]", passes))
