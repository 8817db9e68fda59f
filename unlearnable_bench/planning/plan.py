"""What is to be computed: noises, cells, plans, and what determines each."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, cast

from unlearnable_bench.contract import Attack, Defense, Learner
from unlearnable_bench.errors import plugin_errors
from unlearnable_bench.identity import key_of
from unlearnable_bench.images import Data
from unlearnable_bench.planning.protection import EVERYTHING, Protection
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Precision, Training

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
        if self.attack.plugin.surrogate != "none":
            identity |= {"surrogate": self.surrogate.identity(), "precision": self.precision}
        if self.attack.plugin.surrogate == "clean":
            identity |= {"training": self.training.option_values()}
        return identity

    @property
    def name(self) -> str:
        """What progress and messages call the poison."""
        return f"{self.attack.label}, seed {self.seed}"

    @cached_property
    def clean_network_key(self) -> str:
        """The address of the surrogate trained on the clean images."""
        return self.network_key(self.training)

    def network_key(self, training: Training, rho_a: Radius = Radius()) -> str:
        """Return the address of a surrogate trained on the clean images, as `clean_network` does.

        Args:
            training: the schedule.
            rho_a: radius of adversarial training; 0 trains normally.
        """
        identity = {
            "protocol": PROTOCOL,
            "data": self.data.sha256,
            "transform": list(self.data.transform),
            "network": self.surrogate.identity(),
            "training": training.option_values(),
            "precision": self.precision,
            "seed": self.seed,
        }
        return key_of(identity | ({"rho_a": rho_a} if rho_a else {}))

    @cached_property
    def trajectory_key(self) -> str:
        """The address of the surrogate's updates: the same wherever the option `stop` ends them."""
        attack = self.identity["attack"]
        options = {name: value for name, value in attack["options"].items() if name != "stop"}
        return key_of(self.identity | {"attack": attack | {"options": options}})

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
    def labels(self) -> dict[str, Any]:
        """What plans and failures name the cell by; records have the same fields.

        `rho_u` is the radius asked for: "0" for clean images, "" for an attack without one.
        """
        rho_u = self.poison.attack.plugin.option_values().get("rho_u")
        if self.poison.attack.name == "clean":
            rho_u = Radius("0")
        return {
            "dataset": self.poison.data.name,
            "attack": self.attack_label,
            "learner": self.learner.label,
            "defense": self.defense.label,
            "rho_a": str(self.rho_a),
            "rho_u": str(rho_u) if isinstance(rho_u, Radius) else "",
            "protect": self.protection.share,
            "preset": self.preset_label,
            "seed": self.poison.seed,
        }

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
            "training": self.training.option_values(),
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
class Probe:
    """One measurement of robustness: of a poison's surrogate, and of its noise.

    Attributes:
        poison: what is measured; its method keeps a final surrogate.
        attack_label: the row's name.
        rho_a: radius of the attack on both networks.
        training: schedule of adversarial training, of the reference network.
        steps: PGD steps of the attack.
        images: training images that are attacked, a seeded choice; fewer where there are fewer.
    """

    poison: PoisonPlan
    attack_label: str
    rho_a: Radius
    training: Training
    steps: int = 10
    images: int = 10_000

    def __repr__(self) -> str:
        return f"<Probe {self.name}>"

    @property
    def name(self) -> str:
        """What progress and messages call the probe."""
        return f"{self.attack_label}, robustness at {self.rho_a}, seed {self.poison.seed}"

    @property
    def reference_key(self) -> str:
        """The address of the reference network: the same for every noise and seed."""
        return replace(self.poison, seed=0).network_key(self.training, self.rho_a)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that determines the result."""
        return {
            "poison": self.poison.identity,
            "reference": self.reference_key,
            "rho_a": self.rho_a,
            "steps": self.steps,
            "images": min(self.images, len(self.poison.data.train)),
        }

    @cached_property
    def key(self) -> str:
        """The address of the measurement in a results folder."""
        return key_of(self.identity)

    def image_passes(self) -> float:
        """Estimate forward-and-backward passes of single images, the reference's training apart."""
        return 2.0 * min(self.images, len(self.poison.data.train)) * (self.steps + 1)


@dataclass(frozen=True, repr=False)
class Plan:
    """The cells that a command asks for, in the order in which they are run.

    Attributes:
        data: the data set.
        preset_label: name of the preset, with what the user changed.
        cells: what is trained.
        probes: what is measured after that.
    """

    data: Data
    preset_label: str
    cells: tuple[Cell, ...]
    probes: tuple[Probe, ...] = ()

    def __repr__(self) -> str:
        return f"<Plan {self.key}: {len(self.cells)} cells on {self.data.name}>"

    @property
    def work(self) -> tuple[Cell | Probe, ...]:
        """Everything that is computed, each under its own key."""
        return (*self.cells, *self.probes)

    @cached_property
    def key(self) -> str:
        """The address of the plan in a results folder."""
        keys = {"cells": sorted(cell.key for cell in self.cells)}
        if self.probes:
            keys["probes"] = sorted(probe.key for probe in self.probes)
        return key_of(keys)[:8]

    def image_passes(self) -> float | None:
        """Estimate forward-and-backward passes of single images, or None where unknown."""
        count = len(self.data.train)
        poisons = {item.poison.key: item.poison.attack for item in self.work}
        passes = []
        for attack in poisons.values():
            with plugin_errors(f"attack {attack.name!r}"):
                passes.append(attack.plugin.image_passes(count))
        passes += [cell.training.image_passes(cell.images, cell.rho_a) for cell in self.cells]
        passes += [probe.image_passes() for probe in self.probes]
        references = {probe.reference_key: probe for probe in self.probes}
        passes += [p.training.image_passes(count, p.rho_a) for p in references.values()]
        return None if None in passes else sum(cast("list[float]", passes))
