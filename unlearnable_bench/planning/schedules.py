"""The schedules of a plan: of learners, of adversarial training, and of clean surrogates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.options import as_text
from unlearnable_bench.planning.sections import Sections, single
from unlearnable_bench.presets import Preset
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Training


@dataclass(frozen=True)
class Schedules:
    """The schedules of a plan.

    Attributes:
        standard: of learners, in standard training.
        adversarial: of learners, in adversarial training.
        surrogate: of surrogates trained on clean images.
        robust_surrogate: of those that are trained adversarially on clean images.
    """

    standard: Training
    adversarial: Training
    surrogate: Training
    robust_surrogate: Training

    @classmethod
    def of(cls, base: Preset, given: Mapping[str, dict[str, Any]]) -> "Schedules":
        """Return a preset's schedules, with the user's settings by section."""
        learner = base.training | given["training"]
        robust = Training.configured(
            base.training | base.adversarial | given["training"], owner="training"
        )
        return cls(
            Training.configured(learner, owner="training"),
            Training.configured(robust.option_values() | given["adversarial"], owner="adversarial"),
            *(
                Training.configured(
                    base.training | robust | base.surrogate_training | given["surrogate"],
                    owner="surrogate",
                )
                for robust in ({}, base.adversarial)
            ),
        )

    def of_surrogate(self, rho_a: Radius) -> Training:
        """Return the schedule of a clean surrogate for a radius of its adversarial training."""
        return self.robust_surrogate if rho_a else self.surrogate

    def by_section(self, section: str) -> tuple[Training, ...]:
        """Return the schedules that the settings of a section change."""
        return {
            "training": (self.standard, self.adversarial),
            "adversarial": (self.adversarial,),
            "surrogate": (self.surrogate, self.robust_surrogate),
        }[section]


def schedules_of(
    base: Preset,
    sections: Sections,
    of_preset: Sections,
    precision: str,
    *,
    adversarial_cells: bool,
    several_steps: bool,
    clean_surrogate: bool,
    robust_surrogate: bool,
) -> tuple[Schedules, str]:
    """Return the schedules, and the preset's label.

    Args:
        base: the preset.
        sections: the user's settings, which must have an effect.
        of_preset: settings that are part of the preset's name, which need not have one.
        precision: `bf16`, `fp32` or `fp64`.
        adversarial_cells: whether a cell is trained adversarially.
        several_steps: whether a defense reads the number of PGD steps.
        clean_surrogate: whether a method trains a surrogate on clean images.
        robust_surrogate: whether one does so adversarially.
    """
    names = ("training", "adversarial", "surrogate")
    given = {name: single(name, sections.take(name, Training)) for name in names}
    named = {name: single(name, of_preset.take(name, Training)) for name in names}
    of_preset.refuse_rest()
    both = {name: named[name] | given[name] for name in names}
    usual, chosen = Schedules.of(base, {name: {} for name in names}), Schedules.of(base, both)
    _refuse_unread(
        given, chosen, adversarial_cells=adversarial_cells, robust_surrogate=robust_surrogate
    )
    if given["surrogate"] and not clean_surrogate:
        raise UserError(
            f"--set surrogate.{next(iter(given['surrogate']))} has no effect in this plan: no "
            "method of it trains a surrogate on clean images; omit it"
        )
    for section in ("training", "adversarial"):
        if "pgd_steps" in given[section] and not several_steps:
            raise UserError(
                f"--set {section}.pgd_steps has no effect in this plan: its defenses take a single "
                "step; omit it"
            )
    changed = {
        f"{section}.{name}": value
        for section, values in both.items()
        for name, value in values.items()
        if any(
            new.option_values()[name] != old.option_values()[name]
            for new, old in zip(chosen.by_section(section), usual.by_section(section), strict=True)
        )
    }
    if precision != base.precision:
        changed["precision"] = precision
    inside = ",".join(f"{key}={as_text(value)}" for key, value in sorted(changed.items()))
    return chosen, f"{base.name}[{inside}]" if inside else base.name


def _refuse_unread(
    given: Mapping[str, dict[str, Any]],
    schedules: Schedules,
    *,
    adversarial_cells: bool,
    robust_surrogate: bool,
) -> None:
    """Refuse settings of the schedules that have no effect in any cell."""
    if not adversarial_cells:
        unread = [f"adversarial.{name}" for name in given["adversarial"]]
        unread += [f"training.{name}" for name in given["training"] if name == "pgd_steps"]
        if unread:
            raise UserError(
                f"--set {unread[0]} has no effect in this plan; it is read if rho_a is above 0, "
                "such as --rho-a 4/255"
            )
    if "pgd_steps" in given["surrogate"] and not robust_surrogate:
        raise UserError(
            "--set surrogate.pgd_steps has no effect: the surrogates of this plan are trained "
            "without an adversary; omit it"
        )
    for section, values in given.items():
        used = schedules.by_section(section)
        if section == "training" and not adversarial_cells:
            used = (schedules.standard,)
        if section == "surrogate" and not robust_surrogate:
            used = (schedules.surrogate,)
        for name in values:
            conditions = [found[name] for one in used if name in (found := one.unread())]
            if len(conditions) == len(used):
                raise UserError(
                    f"--set {section}.{name} has no effect in this plan; it is read if "
                    f"{conditions[0]}"
                )
