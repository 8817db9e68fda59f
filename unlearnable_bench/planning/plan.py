"""Poisons, cells and plans, and the identity that determines each result."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from unlearnable_bench.contract import Attack, Defense, Learner
from unlearnable_bench.identity import key_of, network_key
from unlearnable_bench.images import Data
from unlearnable_bench.planning.protection import EVERYTHING, Protection
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import USUAL_RHO_U, Radius
from unlearnable_bench.schedule import Precision, Training

# Raised when the harness or the training loop changes what the same settings mean.
PROTOCOL = 1


@dataclass(frozen=True)
class PoisonPlan:
    """One poison: a method, with a seed, on a data set.

    Attributes:
        attack: the method and its options.
        surrogate: the architecture of the surrogate.
        seed: seed of everything random in the method.
        precision: arithmetic of the networks.
        training: schedule of a surrogate trained on clean images: of standard training, or of
            adversarial training if the attack's `surrogate_rho_a` is above 0.
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
        """Everything that determines the poison."""
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
        """Name of the poison in progress and messages."""
        return f"{self.attack.label}{self.radius_note}, seed {self.seed}"

    @property
    def radius_note(self) -> str:
        """Radius of the noise in brackets unless it is the usual 8/255."""
        rho_u = self.attack.plugin.option_values().get("rho_u")
        named = isinstance(rho_u, Radius) and rho_u != USUAL_RHO_U
        return f" ({rho_u})" if named else ""

    @cached_property
    def clean_network_key(self) -> str:
        """The address of the surrogate trained on the clean images."""
        return self.network_key(self.training, self.attack.plugin.surrogate_rho_a())

    def network_key(self, training: Training, rho_a: Radius = Radius()) -> str:
        """Return the address of a surrogate trained on the clean images, as `clean_network` does.

        Args:
            training: the schedule.
            rho_a: radius of adversarial training; 0 is standard training.
        """
        own = {"surrogate": self.surrogate.identity(), "precision": self.precision}
        return network_key(self.identity | own, training.option_values(), rho_a, self.seed)

    @cached_property
    def trajectory_key(self) -> str:
        """The address of the surrogate's updates, which do not depend on the option `stop`."""
        attack = self.identity["attack"]
        options = {name: value for name, value in attack["options"].items() if name != "stop"}
        return key_of(self.identity | {"attack": attack | {"options": options}})

    @cached_property
    def key(self) -> str:
        """The address of the poison in a results folder."""
        return key_of(self.identity)


@dataclass(frozen=True, repr=False)
class Cell:
    """One learner trained on one poison: one accuracy, before the mean over seeds.

    The seed of the poison determines the noise and the choice of the protected images; that of the
    cell determines all that training draws: weights, order, augmentation, held-out images.

    Attributes:
        poison: the poison that the learner is trained on.
        attack_label: name of the row, as in records.
        learner: the architecture.
        defense: the defense during training.
        rho_a: radius of adversarial training; 0 is standard training.
        training: the schedule.
        preset_label: name of the preset, with the options that the user changed.
        protection: which images are poisoned.
        training_seed: seed of training; None: that of the poison.
    """

    poison: PoisonPlan
    attack_label: str
    learner: Chosen[Learner]
    defense: Chosen[Defense]
    rho_a: Radius
    training: Training
    preset_label: str
    protection: Protection = EVERYTHING
    training_seed: int | None = None

    def __repr__(self) -> str:
        return f"<Cell {self.name}>"

    @property
    def seed(self) -> int:
        """Seed of training."""
        return self.poison.seed if self.training_seed is None else self.training_seed

    @property
    def noise_seed(self) -> int | None:
        """Seed of the noise if it differs from that of training."""
        return None if self.seed == self.poison.seed else self.poison.seed

    @property
    def method(self) -> str:
        """Name of the row in messages."""
        return "clean-subset baseline" if self.protection.complement_only else self.attack_label

    @property
    def name(self) -> str:
        """Name of the cell in progress and messages."""
        defense = "" if self.defense.name == "none" else f", {self.defense.label}"
        share = self.protection.share
        protect = "" if share == 1 else f", {100 * share:g} % protected"
        noise = "" if self.noise_seed is None else f"noise seed {self.noise_seed}, "
        place = f"rho_a {self.rho_a}, {noise}seed {self.seed}"
        method = f"{self.method}{self.poison.radius_note}"
        return f"{method}, {self.learner.label}{defense}{protect}, {place}"

    @property
    def labels(self) -> dict[str, Any]:
        """Labels of the cell in plans and failures; records have the same fields.

        `rho_u` is the requested radius: "0" for clean images, "" for an attack without one.
        `noise_seed` is only there if it differs from `seed`.
        """
        rho_u = self.poison.attack.plugin.option_values().get("rho_u")
        if self.poison.attack.name == "clean":
            rho_u = Radius("0")
        labels = {
            "dataset": self.poison.data.name,
            "attack": self.attack_label,
            "learner": self.learner.label,
            "defense": self.defense.label,
            "rho_a": str(self.rho_a),
            "rho_u": str(rho_u) if isinstance(rho_u, Radius) else "",
            "protect": self.protection.share,
            "preset": self.preset_label,
            "seed": self.seed,
        }
        return labels if self.noise_seed is None else labels | {"noise_seed": self.noise_seed}

    @property
    def images(self) -> int:
        """Number of images that the learner is trained on."""
        labels = self.poison.data.train.labels
        if not self.protection.complement_only:
            return len(labels)
        return len(labels) - len(self.protection.chosen(labels, self.poison.seed))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result, and the labels under which it is shown."""
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
            identity["protection"] = self.protection.identity()
        if self.noise_seed is not None:
            identity["seed"] = self.seed
        return identity

    @cached_property
    def key(self) -> str:
        """The address of the record in a results folder."""
        return key_of(self.identity)


@dataclass(frozen=True, repr=False)
class Probe:
    """One measurement of the robustness of a poison's noise and of its surrogate.

    Attributes:
        poison: the poison; its method stores the final surrogate.
        attack_label: name of the row, as in records.
        rho_a: radius of the PGD attack on both networks.
        training: schedule of adversarial training of the reference network.
        steps: number of PGD steps of the attack.
        images: number of training images that are attacked, a seeded choice; at most all of them.
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
        """Name of the probe in progress and messages."""
        return f"{self.attack_label}, robustness at {self.rho_a}, seed {self.poison.seed}"

    @property
    def labels(self) -> dict[str, Any]:
        """Its name, for failures and plans."""
        return {"measurement": self.name}

    @property
    def reference_key(self) -> str:
        """The address of the reference network: the same for every noise and seed."""
        return replace(self.poison, seed=0).network_key(self.training, self.rho_a)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result."""
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
        """Estimate forward-and-backward passes of single images, without the reference."""
        return 2.0 * min(self.images, len(self.poison.data.train)) * (self.steps + 1)


@dataclass(frozen=True, repr=False)
class Plan:
    """The cells of a command, in the order in which they are run.

    Attributes:
        data: the data set.
        preset_label: name of the preset, with the options that the user changed.
        cells: the learners to train.
        probes: the measurements of robustness after that.
        remarks: lines of the methods for the printed plan, such as how a file is read.

    Examples:
        >>> from unlearnable_bench import make_plan
        >>> few = {"shapes.train": 100, "shapes.test": 100}
        >>> plan = make_plan(methods=["sem"], seeds=[0, 1], preset="smoke", settings=few)
        >>> [cell.name for cell in plan.cells][:2]
        ['clean, small-cnn, rho_a 0, seed 0', 'clean, small-cnn, rho_a 0, seed 1']
    """

    data: Data
    preset_label: str
    cells: tuple[Cell, ...]
    probes: tuple[Probe, ...] = ()
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Plan {self.key}: {len(self.cells)} cells on {self.data.name}>"

    @property
    def work(self) -> tuple[Cell | Probe, ...]:
        """All cells and probes, each with a key of its own."""
        return (*self.cells, *self.probes)

    @cached_property
    def key(self) -> str:
        """The address of the plan in a results folder."""
        keys = {"cells": sorted(cell.key for cell in self.cells)}
        if self.probes:
            keys["probes"] = sorted(probe.key for probe in self.probes)
        return key_of(keys)[:8]
