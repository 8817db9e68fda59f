"""Several defenses at once: `jpeg+cutmix`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unlearnable_bench.contract import Defense
from unlearnable_bench.errors import UserError, plugin_errors
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.registry import Chosen

if TYPE_CHECKING:
    from unlearnable_bench.harness import Harness, Network, Random
    from unlearnable_bench.images import Data, ImageSet
    from unlearnable_bench.planning.protection import Protection
    from unlearnable_bench.radius import Radius

_HOOKS = ("prepare", "augment", "perturb", "loss", "validation_share", "refit")
# Hooks that only one of several combined defenses may override.
_SINGLE = {
    "perturb": "inner maximisation",
    "loss": "loss",
    "validation_share": "held-out images",
    "refit": "refit",
}


def compose(
    name: str,
    settings: Mapping[str, Mapping[str, Any]],
    preset: Mapping[str, Mapping[str, Any]] = {},
) -> Chosen[Defense]:
    """Return the defense of that name, or the composition of those joined by `+`.

    Args:
        name: such as `jpeg` or `jpeg+cutmix`.
        settings: the user's options of defenses, by name.
        preset: the preset's options of defenses, by name.

    Raises:
        UserError: an unknown defense or option, a defense without hooks, or two that cannot be
            combined.
    """
    parts = tuple(
        registry.defenses.choose(n, settings.get(n, {}), preset.get(n, {})) for n in name.split("+")
    )
    for part in parts:
        # With a misspelt hook, it would be standard training under the defense's name.
        if part.name != "none" and not any(_overrides(part.plugin, hook) for hook in _HOOKS):
            hooks = ", ".join(_HOOKS)
            raise UserError(f"defense {part.name!r} defines none of the hooks {hooks}")
    if len(parts) == 1:
        return parts[0]
    for hook, meaning in _SINGLE.items():
        owners = [part.name for part in parts if _overrides(part.plugin, hook)]
        if len(owners) > 1:
            both = " and ".join(owners)
            raise UserError(f"{name}: {both} each define their own {meaning}; use only one of them")
    return Chosen("+".join(part.label for part in parts), {}, Composition(parts=parts))


def parts_of(name: str) -> list[str]:
    """Return the names of the defenses that a name joins by `+`.

    Raises:
        UserError: a part that is given twice, or that does nothing. Both would have the same
            options, and an augmentation or filter applied twice is the same defense with a
            stronger option, such as `randaugment.num_ops`.
    """
    parts = name.split("+")
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice:
        raise UserError(f"--defenses {name}: {twice} is given twice; give it once")
    if len(parts) > 1 and "none" in parts:
        rest = "+".join(part for part in parts if part != "none")
        raise UserError(f"--defenses {name}: none adds nothing; write {rest}, or none,{rest}")
    return parts


def adversarial_only(defense: Chosen[Defense]) -> bool:
    """Return whether a defense, or a part of it, acts only in adversarial training."""
    plugin = defense.plugin
    if isinstance(plugin, Composition):
        return any(adversarial_only(part) for part in plugin.parts)
    return plugin.adversarial_only


def reads_pgd_steps(defense: Chosen[Defense]) -> bool:
    """Return whether the inner maximisation of a defense uses the number of PGD steps."""
    plugin = defense.plugin
    if isinstance(plugin, Composition):
        return all(reads_pgd_steps(part) for part in plugin.parts)
    return plugin.reads_pgd_steps


def without_effect(
    defenses: Sequence[Chosen[Defense]], rho_a: Sequence["Radius"]
) -> tuple[str, ...]:
    """Return a line about cells at rho_a 0 that are left out, if there are any.

    Raises:
        UserError: a defense acts only in adversarial training, and no radius is above 0.
    """
    names = ", ".join(dict.fromkeys(one.name for one in defenses if adversarial_only(one)))
    if not names or all(rho_a):
        return ()
    if not any(rho_a):
        raise UserError(f"--defenses {names}: acts only in adversarial training; add --rho-a 4/255")
    return (f"{names}: no cells at rho_a 0, where it would be standard training",)


def refuse_shares(
    defenses: Sequence[Chosen[Defense]], data: "Data", protections: Iterable["Protection"]
) -> None:
    """Refuse a defense that holds out all images, or a share that is none.

    Args:
        defenses: those of the plan.
        data: the data set.
        protections: those of the plan; some cells are trained on the unprotected images only.
    """
    labels = data.train.labels
    counts = [
        len(labels) - len(part.chosen(labels, 0)) if part.complement_only else len(labels)
        for part in protections
    ]
    for one in defenses:
        with plugin_errors(f"defense {one.name!r}"):
            share = one.plugin.validation_share()
        if not 0 <= share < 1:
            raise UserError(
                f"defense {one.name!r} holds out a share of {share:g} (`validation_share`); "
                "allowed: 0 to below 1"
            )
        if share and one.plugin.held_out_count(min(counts)) >= min(counts):
            raise UserError(
                f"defense {one.label} holds out {100 * share:g} % of {min(counts)} training "
                "images, so that none is left; give more images, or hold out a smaller share"
            )


@dataclass(frozen=True, kw_only=True)
class Composition(Defense):
    """Defenses applied one after another, in the given order."""

    parts: tuple[Chosen[Defense], ...]

    def option_values(self) -> dict[str, Any]:
        """Return the parts' identities."""
        return {"parts": [part.identity() for part in self.parts]}

    def check(self, images: "ImageSet") -> str | None:
        """Check each part, and return the lines of all."""
        lines = [part.plugin.check(images) for part in self.parts]
        return "; ".join(line for line in lines if line) or None

    def image_passes(self, images: int) -> float:
        """Return the passes of all parts."""
        return sum(part.plugin.image_passes(images) for part in self.parts)

    def validation_share(self) -> float:
        """Return the share that a part holds out."""
        return max(part.plugin.validation_share() for part in self.parts)

    def chooses_epoch(self) -> bool:
        """Choose as the part that holds out images."""
        return self._owner("validation_share").chooses_epoch()

    def refit(self, model: "Network", held_out: "ImageSet", harness: "Harness") -> bool:
        """Refit as the part that overrides this hook."""
        return self._owner("refit").refit(model, held_out, harness)

    def prepare(self, images: "ImageSet", harness: "Harness") -> "ImageSet":
        """Prepare in order."""
        return reduce(lambda done, part: part.plugin.prepare(done, harness), self.parts, images)

    def augment(
        self, model: nn.Module, x: Tensor, y: Tensor, random: "Random"
    ) -> tuple[Tensor, Tensor]:
        """Augment in order."""
        for part in self.parts:
            x, y = part.plugin.augment(model, x, y, random)
        return x, y

    def perturb(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        rho_a: "Radius",
        steps: int,
        random: "Random",
    ) -> Tensor:
        """Perturb as the part that overrides this hook."""
        return self._owner("perturb").perturb(model, x, y, rho_a, steps, random)

    def loss(self, model: nn.Module, x: Tensor, perturbed: Tensor, y: Tensor) -> Tensor:
        """Return the loss of the part that overrides this hook."""
        return self._owner("loss").loss(model, x, perturbed, y)

    def _owner(self, hook: str) -> Defense:
        owners = [part.plugin for part in self.parts if _overrides(part.plugin, hook)]
        return (owners or [self.parts[0].plugin])[0]


def _overrides(defense: Defense, hook: str) -> bool:
    return getattr(type(defense), hook) is not getattr(Defense, hook)
