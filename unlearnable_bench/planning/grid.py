"""From names, presets and settings to the cells of a plan."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from unlearnable_bench.contract import Attack, Dataset, Defense, Learner, Plugin
from unlearnable_bench.errors import UserError, plugin_errors, unknown
from unlearnable_bench.images import Data
from unlearnable_bench.options import Setting
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.checks import (
    check_surrogates,
    checked,
    checked_defenses,
    refuse_unused,
)
from unlearnable_bench.planning.class_names import class_text
from unlearnable_bench.planning.composition import (
    adversarial_only,
    compose,
    parts_of,
    reads_pgd_steps,
    refuse_shares,
    without_effect,
)
from unlearnable_bench.planning.given import if_given, name_of, names_of, refuse_types
from unlearnable_bench.planning.plan import Cell, Plan, PoisonPlan
from unlearnable_bench.planning.pretrained import (
    architecture_of,
    checked_weights,
    split_weights,
    with_weights,
)
from unlearnable_bench.planning.protection import Protection, protections_of
from unlearnable_bench.planning.registry import Chosen, Registry
from unlearnable_bench.planning.row_names import named, refuse_rows, split_row
from unlearnable_bench.planning.schedules import schedules_of
from unlearnable_bench.planning.sections import Sections, sections_of, single
from unlearnable_bench.presets import Preset, default_preset, load_preset, split_label
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Precision

T = TypeVar("T", bound=Plugin)


def make_plan(
    *,
    methods: Sequence[str | Path | type[Attack]],
    rho_a: Sequence[Radius] = (Radius("0"),),
    rho_u: Sequence[Radius] = (),
    defenses: Sequence[str | Path | type[Defense]] = ("none",),
    learners: Sequence[str | Path | type[Learner]] = (),
    surrogate: str | Path | type[Learner] | None = None,
    dataset: str | Path | type[Dataset] | None = None,
    preset: str | None = None,
    seeds: Sequence[int] = (0,),
    noise_seeds: Sequence[int] = (),
    precision: str | None = None,
    settings: Mapping[str, Setting] = {},
    clean: bool = True,
    protect: Sequence[float] = (1.0,),
    protect_classes: Sequence[str] = (),
) -> Plan:
    """Resolve names, presets and settings into cells; loads the data.

    An attack, defense, learner or data set may be given by name, as a class, or as the `Path` of a
    Python file that defines it, as with `--plugin`.

    Args:
        methods: names of attacks, `file:PATH`, or `ROW=file:PATH` with a name for its row.
        rho_a: radii of adversarial training.
        rho_u: radii of the noise, for every attack that has this option; empty: its own.
        defenses: names of defenses, or several joined as `jpeg+cutmix`.
        learners: names of learners; empty: the preset's.
        surrogate: name of the surrogate's architecture; None: the preset's.
        dataset: name of a data set, such as `cifar10`, `npz:FILE` or `folder:DIR`; None: the
            preset's.
        preset: name of the preset, or the label that a table gives it with changed schedules, such
            as `fast[adversarial.epochs=6]`, which need not affect the plan; None: `fast` if CUDA is
            available, otherwise `smoke`, as on the command line.
        seeds: seeds of training, and of the noise unless `noise_seeds` are given.
        noise_seeds: seeds of the noise, each combined with each of `seeds`; empty: each noise has
            the seed of its learner. Clean images and other noise without anything random keep
            one seed, since another one would change nothing.
        precision: `bf16`, `fp32` or `fp64`; None: the preset's.
        settings: option to value, such as `{"sem.steps": 2000}`; the part before the dot is a
            plugin, `training` (of learners), `adversarial` (training with rho_a above 0) or
            `surrogate` (training of surrogates on clean images). A list, or a text with commas,
            makes one variant of an attack, defense or learner per value; several lists make their
            product, the first changing slowest. An architecture that is both learner and surrogate
            has the same options in both roles.
        clean: add the clean control; for a share of protected images below 1, the clean-subset
            baseline (the row `remainder`): training on the unprotected images only.
        protect: shares of the images that are poisoned, above 0, at most 1.
        protect_classes: names of the classes that are poisoned, or `#LABEL`; empty: all.

    Raises:
        UserError: an unknown name or option, an invalid value, or data that cannot be read.
    """
    rows: list[str] = names_of(registry.attacks, methods)
    defenses = names_of(registry.defenses, defenses)
    learners = names_of(registry.learners, learners)
    maker_name: str | None = name_of(registry.learners, surrogate)
    data_name: str | None = name_of(registry.datasets, dataset)
    refuse_types(
        surrogate=(if_given(maker_name), str), dataset=(if_given(data_name), str),
        preset=(if_given(preset), str), precision=(if_given(precision), str),
        methods=(rows, str), rho_a=(rho_a, Radius), rho_u=(rho_u, Radius), seeds=(seeds, int),
        noise_seeds=(noise_seeds, int), defenses=(defenses, str), learners=(learners, str),
        protect=(protect, (int, float)), protect_classes=(protect_classes, str),
    )  # fmt: skip
    preset, of_preset = split_label(preset or default_preset())
    base = load_preset(preset)
    sections = sections_of(settings)
    precision = precision or of_preset.pop("precision", base.precision)
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    names = list(dict.fromkeys([*(["clean"] if clean else []), *rows]))
    refuse_rows(names)
    if not names or not rho_a or not seeds or not defenses or not protect:
        raise UserError(
            "nothing to run; give at least one method, rho_a, defense, seed and share to protect"
        )
    for seed in (*seeds, *noise_seeds):
        if not 0 <= seed < 2**64:  # what torch's generator takes
            raise UserError(f"seed {seed} is out of range; give seeds from 0 to 2^64 - 1")

    attacks = [chosen for name in names for chosen in _attacks(name, base, sections, rho_u)]
    chosen_defenses = [d for name in _unique(defenses) for d in _defenses(name, base, sections)]
    chosen_learners = [
        chosen
        for name in _unique(learners or [base.learner])
        for chosen in _learners(name, sections)
    ]
    refuse_unused(attacks, rho_u, maker_name)
    if ":" in (maker_name or ""):
        raise UserError(
            f"--surrogate {maker_name}: a surrogate is an architecture, without weights of a file; "
            "give its name, and pretrained weights in --learners"
        )
    makers = _learners(maker_name or base.surrogate, sections)
    schedules, preset_label = schedules_of(
        base,
        sections,
        sections_of(of_preset),
        precision,
        adversarial_cells=any(rho_a),
        several_steps=any(map(reads_pgd_steps, chosen_defenses)),
        clean_surrogate=any(attack.plugin.surrogate == "clean" for attack in attacks),
        robust_surrogate=any(attack.plugin.surrogate_rho_a() for attack in attacks),
    )
    data = _data(data_name or base.dataset, sections)
    sections.refuse_rest()
    attacks, remarks = checked(attacks, data, _unique(noise_seeds or seeds))
    check_surrogates(attacks, makers, schedules, data)
    remarks += checked_defenses(chosen_defenses, data) + without_effect(chosen_defenses, rho_a)
    remarks += checked_weights(chosen_learners, data)
    protections = protections_of(data, protect, protect_classes)
    drawn = any(attack.plugin.seeded for attack in attacks) or any(share < 1 for share in protect)
    if noise_seeds and not drawn:
        raise UserError(
            "--noise-seeds has no effect: no method of this plan draws its noise; omit it"
        )
    refuse_shares(chosen_defenses, data, (part for kind in protections.values() for part in kind))
    if protect_classes:
        named = (class_text(data, label) for label in protections[False][0].classes)
        preset_label += f"[protect_classes={','.join(named)}]"

    def cell(
        attack: Chosen[Attack],
        maker: Chosen[Learner],
        protection: Protection,
        seeds: tuple[int, int],
        learner: Chosen[Learner],
        defense: Chosen[Defense],
        radius: Radius,
    ) -> Cell:
        noise_seed, seed = seeds
        own = schedules.of_surrogate(attack.plugin.surrogate_rho_a())
        poison = PoisonPlan(attack, maker, noise_seed, cast("Precision", precision), own, data)
        label = "remainder" if protection.complement_only else _attack_label(attack, maker, base)
        schedule = schedules.adversarial if radius else schedules.standard
        return Cell(
            poison, label, learner, defense, radius, schedule, preset_label, protection, seed
        )

    cells = (
        cell(attack, maker, protection, pair, learner, defense, radius)
        for attack in attacks
        for maker in makers
        for protection in protections[attack.name == "clean"]
        for pair in _seed_pairs(attack, protection, _unique(noise_seeds), _unique(seeds))
        for learner in chosen_learners
        for defense in chosen_defenses
        for radius in _unique(rho_a)
        # Settings hold for both roles: learner and surrogate are never two variants of one.
        if (learner.name != maker.name or architecture_of(learner) == maker)
        and (radius or not adversarial_only(defense))
    )
    # A method without a surrogate gives the same cell for each surrogate.
    distinct: dict[str, Cell] = {}
    for one in cells:
        distinct.setdefault(one.key, one)
    return Plan(data, preset_label, tuple(distinct.values()), remarks=remarks)


def load_data(name: str, settings: Mapping[str, Setting] = {}) -> Data:
    """Load a data set by name, such as `cifar10` or `npz:FILE`.

    Args:
        name: as for `make_plan`.
        settings: options of the data set, such as `{"shapes.test": 100}`.

    Raises:
        UserError: an unknown name or option, or data that cannot be read.
    """
    sections = sections_of(settings)
    data = _data(name, sections)
    sections.refuse_rest()
    return data


def _seed_pairs(
    attack: Chosen[Attack], protection: Protection, noise_seeds: list[int], seeds: list[int]
) -> list[tuple[int, int]]:
    """Return the seeds of noise and training of each replicate."""
    drawn = attack.plugin.seeded or protection.share < 1
    if noise_seeds and drawn:
        return [*product(noise_seeds, seeds)]
    return [*zip(seeds, seeds, strict=True)]


def _data(name: str, sections: "Sections") -> Data:
    """Load a data set; changed options are part of its name: `shapes[contrast=80.0]`."""
    kind, variants = _with_path(registry.datasets, name, sections)
    chosen = registry.datasets.choose(kind, single(kind, variants))
    with plugin_errors(f"data set {kind!r}"):
        data = chosen.plugin.load()
    if not isinstance(data, Data):
        raise UserError(
            f"data set {kind!r} must return Data from load(), got {type(data).__name__}"
        )
    changed = {name: value for name, value in chosen.passed.items() if name != "path"}
    return replace(data, name=replace(chosen, name=data.name, passed=changed).label)


def _variants(kinds: Registry[T], name: str, sections: Sections) -> list[dict[str, Any]]:
    return sections.take(name, kinds.get(name))


def _learners(name: str, sections: Sections) -> list[Chosen[Learner]]:
    """Return every variant of an architecture, with the weights of a file if it names one."""
    name, weights = split_weights(name)
    found = _built(registry.learners, name, _variants(registry.learners, name, sections))
    return [with_weights(chosen, weights) for chosen in found] if weights else found


def _defenses(name: str, base: Preset, sections: Sections) -> list[Chosen[Defense]]:
    """Return every variant of a defense, or of several joined by `+`."""
    parts = parts_of(name)
    variants = product(*(_variants(registry.defenses, part, sections) for part in parts))
    passed = (dict(zip(parts, chosen, strict=True)) for chosen in variants)
    return [compose(name, given, base.defenses) for given in passed]


def _attacks(
    name: str, base: Preset, sections: Sections, rho_u: Sequence[Radius]
) -> list[Chosen[Attack]]:
    """Return every variant of an attack: each rho_u, if it has this option, and each option."""
    row, name = split_row(name)
    kind, variants = _with_path(registry.attacks, name, sections)
    has_radius = "rho_u" in {option.name for option in registry.attacks.get(kind).options()}
    if has_radius and rho_u:
        if "rho_u" in variants[0]:
            raise UserError(f"--rho-u and --set {kind}.rho_u set the same option; give one of them")
        radii = [{"rho_u": radius} for radius in _unique(rho_u)]
        variants = [passed | radius for radius in radii for passed in variants]
    presets = [base.options_of(kind, passed) for passed in variants]
    built = _built(registry.attacks, kind, variants, presets)
    return [named(chosen, row) for chosen in built] if row else built


def _built(
    kinds: Registry[T],
    name: str,
    variants: list[dict[str, Any]],
    presets: Sequence[Mapping[str, Any]] = (),
) -> list[Chosen[T]]:
    """Build every variant, without the options that have no effect in it.

    Raises:
        UserError: an option that has no effect in any variant.
    """
    presets = presets or [{}] * len(variants)
    built = [kinds.choose(name, *both) for both in zip(variants, presets, strict=True)]
    unread = [chosen.plugin.unread() for chosen in built]
    for option in variants[0]:
        conditions = [found[option] for found in unread if option in found]
        if len(conditions) == len(variants):
            raise UserError(
                f"--set {name}.{option} has no effect in this plan; it is read if {conditions[0]}"
            )
    return [
        kinds.choose(name, {k: v for k, v in passed.items() if k not in ignored}, preset)
        for passed, ignored, preset in zip(variants, unread, presets, strict=True)
    ]


def _with_path(
    kinds: Registry[Any], name: str, sections: Sections
) -> tuple[str, list[dict[str, Any]]]:
    """Split `npz:FILE` into the plugin's name and its variants, with `path` among the settings."""
    kind, colon, path = name.partition(":")
    # Shells expand ~ only at the start of a word.
    if not os.path.exists(path):  # noqa: PTH110 - Path refuses long names
        path = os.path.expanduser(path)  # noqa: PTH111 - Path changes the text
    plugin = kinds.get(kind)
    variants = sections.take(kind, plugin, {"path": path} if colon else {})
    has_path = "path" in {option.name for option in plugin.options()}
    if has_path and not all(passed.get("path") for passed in variants):
        raise UserError(f"{kinds.kind} {kind!r} needs a path: write {kind}:PATH")
    return kind, variants


def _attack_label(attack: Chosen[Attack], surrogate: Chosen[Learner], preset: Preset) -> str:
    """Return the name of the row, without rho_u, which tables and records show separately."""
    passed = {k: v for k, v in attack.passed.items() if k != "rho_u"}
    if attack.plugin.surrogate != "none" and surrogate.label != preset.surrogate:
        passed["surrogate"] = surrogate.label
    return replace(attack, passed=passed).label


def _unique(items: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(items))
