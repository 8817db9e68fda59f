"""What is refused before any work: arguments, radii, data and seeds that a method cannot use."""

from collections.abc import Sequence
from dataclasses import replace

from unlearnable_bench.contract import Attack
from unlearnable_bench.errors import UserError, plugin_errors
from unlearnable_bench.images import Data
from unlearnable_bench.planning.registry import Chosen
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
