"""What is refused before any work: arguments, radii, data and seeds that a method cannot use."""

from collections.abc import Sequence
from dataclasses import replace

from unlearnable_bench.contract import Attack, Defense, Learner
from unlearnable_bench.errors import UserError, plugin_errors
from unlearnable_bench.images import Data
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.planning.schedules import Schedules
from unlearnable_bench.radius import Radius


def checked(
    attacks: list[Chosen[Attack]], data: Data, seeds: Sequence[int]
) -> tuple[list[Chosen[Attack]], tuple[str, ...]]:
    """Return the attacks with what the data decides, and their lines for the printed plan."""
    found, remarks = [], []
    for attack in attacks:
        _refuse_radius(attack)
        with plugin_errors(f"attack {attack.name!r}"):
            plugin = attack.plugin.resolved(data.train)
            remark = plugin.check(data.train)
            for seed in seeds:
                plugin.check_run(data.train, data.transform, seed)
        found.append(replace(attack, plugin=plugin))
        remarks += [remark] if isinstance(remark, str) else []
    return found, tuple(dict.fromkeys(remarks))


def checked_defenses(defenses: Sequence[Chosen[Defense]], data: Data) -> tuple[str, ...]:
    """Refuse defenses that the data does not allow; return their lines for the printed plan."""
    remarks = []
    for defense in defenses:
        with plugin_errors(f"defense {defense.name!r}"):
            remarks.append(defense.plugin.check(data.train))
    return tuple(dict.fromkeys(remark for remark in remarks if isinstance(remark, str)))


def check_surrogates(
    attacks: Sequence[Chosen[Attack]],
    learners: Sequence[Chosen[Learner]],
    schedules: Schedules,
    data: Data,
) -> None:
    """Let each attack with a surrogate refuse its architecture and schedule.

    Args:
        attacks: the attacks.
        learners: the architectures of surrogates.
        schedules: the schedules of the plan.
        data: the data set.
    """
    for attack in attacks:
        if attack.plugin.surrogate == "none":
            continue
        with plugin_errors(f"attack {attack.name!r}"):
            training = schedules.of_surrogate(attack.plugin.surrogate_rho_a())
            for learner in learners:
                attack.plugin.check_surrogate(data.train, learner.plugin, training)


def _refuse_radius(attack: Chosen[Attack]) -> None:
    """Refuse a radius of the noise that no 8-bit image can use."""
    rho_u = attack.plugin.option_values().get("rho_u")
    if isinstance(rho_u, Radius) and rho_u and not rho_u.levels:
        raise UserError(
            f"{attack.name}.rho_u={rho_u} is below 1/255, one level of 8-bit images, so that no "
            "image would change; use 1/255 or more"
        )


def refuse_unused(
    attacks: Sequence[Chosen[Attack]], rho_u: Sequence[Radius], surrogate: str | None
) -> None:
    """Refuse a radius of the noise or a surrogate that no method uses."""
    names = ", ".join(dict.fromkeys(attack.name for attack in attacks))
    if rho_u and not any("rho_u" in attack.plugin.option_values() for attack in attacks):
        raise UserError(f"--rho-u has no effect: no method of this plan ({names}) has rho_u")
    if surrogate and all(attack.plugin.surrogate == "none" for attack in attacks):
        raise UserError(f"--surrogate has no effect: no method of this plan ({names}) uses one")


def check_names(plan: Plan) -> None:
    """Refuse names with bytes that are not text, e.g. of a file, before anything is computed.

    Raises:
        UserError: names the data set, attack, learner or defense.
    """
    names = {cell.poison.attack.label: "attack" for cell in plan.cells}
    names |= {cell.learner.label: "learner" for cell in plan.cells}
    names |= {cell.defense.label: "defense" for cell in plan.cells}
    for name, kind in (names | {plan.data.name: "data set"}).items():
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the name of {kind} {name!r} is not UTF-8 text, as records need; rename its file"
            ) from error
