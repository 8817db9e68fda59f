"""The plan of the robustness-protection correlation: train on a family of noises, measure each.

Figure 3 of the SEM paper (Liu et al., AAAI 2024, https://arxiv.org/abs/2311.13091) shows such a
correlation but does not state which noises it uses. The family here is ours: the radius of the
surrogate's adversarial training x the perturbation of the views when the noise is optimised x the
update after which the noise is extracted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from unlearnable_bench.errors import UserError, unknown
from unlearnable_bench.options import Scalar
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Cell, Plan, Probe
from unlearnable_bench.presets import load_preset, split_label
from unlearnable_bench.radius import Radius

METHODS = ("sem", "rem")


@dataclass(frozen=True)
class Noise:
    """Perturbation of the views when the noise is optimised, and its radius if it has one."""

    perturbation: str
    radius: Radius | None = None

    @classmethod
    def parse(cls, text: str) -> "Noise":
        """Read `none`, `uniform`, `pgd:2/255`; the default radius is that of the evaluation.

        Raises:
            UserError: an unknown perturbation or an invalid radius.
        """
        name, colon, radius = text.strip().partition(":")
        if name not in _perturbations():
            raise unknown("perturbation", name, _perturbations())
        if name == "none" and colon:
            raise UserError(f"--noise {text}: none has no radius; write none")
        return cls(name, Radius(radius) if colon else None)


def _perturbations() -> list[str]:
    """Return the perturbations that SEM and REM support."""
    options = {option.name: option for option in registry.attacks.get("sem").options()}
    return options["perturbation"].type.split("|")


def make_correlation_plan(
    *,
    surrogate_rho_a: Sequence[Radius],
    noises: Sequence[Noise],
    rho_a: Radius,
    stops: Sequence[int] = (),
    method: str = "sem",
    settings: Mapping[str, Any] = {},
    **rest: Any,
) -> Plan:
    """Return the cells and probes of a correlation analysis.

    On each variant of the noise, and on the clean images, learners are trained by standard
    training, with and without the defense `uniform-noise` of radius rho_a, and by adversarial
    training at rho_a. The robustness of each variant is measured at rho_a.

    Args:
        surrogate_rho_a: radii of the surrogate's adversarial training, one variant each.
        noises: perturbations of the views when the noise is optimised, one variant each.
        rho_a: radius of adversarial training and of the attack that measures robustness.
        stops: surrogate updates after which the noise is extracted in addition to the last, one
            variant each.
        method: `sem` or `rem`; their other options differ.
        settings: as for `make_plan`, without the options that make the variants.
        rest: dataset, preset, seeds, noise_seeds, precision, surrogate and learners, as for
            `make_plan`.

    Raises:
        UserError: as `make_plan`; rho_a is 0; fewer than two variants.
    """
    if method not in METHODS:
        raise unknown("method to correlate", method, METHODS)
    if not rho_a:
        raise UserError(
            "--rho-a must be above 0, such as 4/255: protection is measured under adversarial "
            "training"
        )
    taken = {f"{method}.{name}" for name in ("rho_a", "perturbation", "noise_rho_a", "stop")}
    for key in taken & settings.keys():
        raise UserError(f"--set {key}: `ubench correlate` sets this option itself; omit it")
    _refuse_stops(method, stops, settings, rest.get("preset", "smoke"))
    first: Plan | None = None
    cells: dict[str, Cell] = {}
    read: set[str] = set()
    for noise, radius, stop in product(
        dict.fromkeys(noises), dict.fromkeys(surrogate_rho_a), (*sorted(set(stops)), None)
    ):
        variant = _variant(radius, noise, rho_a, stop)
        plugin = registry.attacks.choose(method, variant).plugin
        unread = {f"{method}.{name}": condition for name, condition in plugin.unread().items()}
        read |= settings.keys() - unread.keys()
        plan = make_plan(
            methods=[method],
            rho_a=[Radius("0"), rho_a],
            defenses=["none", "uniform-noise"],
            settings={
                **{key: value for key, value in settings.items() if key not in unread},
                "uniform-noise.radius": rho_a,
                **{f"{method}.{name}": value for name, value in variant.items()},
            },
            **rest,
        )
        first = first or plan
        for cell in plan.cells:
            if not (cell.rho_a and cell.defense.name == "uniform-noise"):
                # All variants share one copy of the images.
                poison = replace(cell.poison, data=first.data)
                cells.setdefault(cell.key, replace(cell, poison=poison))
    for key in settings.keys() - read:
        raise UserError(
            f"--set {key} has no effect in any variant; it is read if {unread[key]} "
            "(--surrogate-rho-a, --noise)"
        )
    probes = {
        probe.key: probe
        for cell in cells.values()
        if cell.rho_a and cell.poison.attack.name == method
        for probe in [Probe(cell.poison, cell.attack_label, rho_a, cell.training)]
    }
    if first is None or len(probes) < 2:
        raise UserError(
            "a correlation needs two variants; give several --surrogate-rho-a or --noise"
        )
    return replace(first, cells=tuple(cells.values()), probes=tuple(probes.values()))


def _refuse_stops(
    method: str, stops: Sequence[int], settings: Mapping[str, Any], preset: str
) -> None:
    """Refuse a stop that is not before the last update."""
    key = f"{method}.steps"
    passed = {"steps": settings[key]} if key in settings else {}
    usual = load_preset(split_label(preset)[0]).attacks.get(method, {})
    steps = registry.attacks.choose(method, passed, usual).plugin.option_values()["steps"]
    for stop in stops:
        if not 0 < stop < steps:
            raise UserError(
                f"--stops {stop}: {method} makes {steps} updates ({method}.steps); give numbers "
                f"from 1 to {steps - 1}, the noise after the last update is always a variant"
            )


def _variant(radius: Radius, noise: Noise, rho_a: Radius, stop: int | None) -> dict[str, Scalar]:
    options: dict[str, Scalar] = {"rho_a": radius, "perturbation": noise.perturbation}
    if noise.perturbation != "none":
        options["noise_rho_a"] = noise.radius or rho_a
    if stop is not None:
        options["stop"] = stop
    return options
