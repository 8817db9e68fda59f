"""What is left to do of a plan, in forward-and-backward passes of single images."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from unlearnable_bench.contract import Attack, Learner
from unlearnable_bench.errors import plugin_errors
from unlearnable_bench.planning.plan import Cell, Plan, PoisonPlan, Probe
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.radius import Radius
from unlearnable_bench.schedule import Training

_BATCH = 128  # number of images in a batch of a method without this option
Kind = Literal["noise", "clean network", "training", "robustness"]


@dataclass(frozen=True)
class Portion:
    """A part of a plan that is computed once.

    Attributes:
        kind: what is computed; a "clean network" is a surrogate or a reference of robustness.
        name: label of the attack, or of the learner.
        learner: the network; None: noise of a method without one.
        size: height and width of the network's images in pixels.
        precision: arithmetic of the network.
        batch: number of images in a batch.
        passes: number of passes; None: the method does not report them.
        steps: number of weight updates of training.
        pgd_steps: PGD steps of an update of adversarial training, otherwise 0.
        tests: number of images on which accuracy is computed.
        defense: label of a defense, whose own work passes do not include; otherwise empty.
        packs: whether several of these are computed at the same time on a GPU.
        poison: the poison, of noise only.
    """

    kind: Kind
    name: str
    learner: Chosen[Learner] | None
    size: int
    precision: str
    batch: int
    passes: float | None
    steps: int = 0
    pgd_steps: int = 0
    tests: int = 0
    defense: str = ""
    packs: bool = False
    poison: PoisonPlan | None = None

    @property
    def is_timeless(self) -> bool:
        """Whether it takes time that passes do not show: they are unknown, or no network's.

        The attacks `clean` and `file` compute nothing.
        """
        made = self.poison is not None and self.poison.attack.name not in ("clean", "file")
        return self.passes is None or (made and not self.passes)


def work_of(
    plan: Plan,
    left: Collection[Cell | Probe] | None = None,
    is_stored: Callable[[str], bool] = lambda _: False,
) -> list[Portion]:
    """Return the work of a plan, with each poison and each shared network once.

    Args:
        plan: the plan.
        left: its cells and probes that are not finished; None: all.
        is_stored: whether the poison or the network of a key exists already.
    """
    items = plan.work if left is None else left
    poisons = {item.poison.key: item.poison for item in items}
    found: list[Portion] = []
    networks: dict[str, Portion] = {}
    for key, poison in poisons.items():
        if is_stored(key):
            continue
        found.append(_noise(poison))
        if poison.attack.plugin.surrogate == "clean":
            rho_a = poison.attack.plugin.surrogate_rho_a()
            networks[poison.clean_network_key] = _network(poison, poison.training, rho_a)
    for probe in (item for item in items if isinstance(item, Probe)):
        networks[probe.reference_key] = _network(probe.poison, probe.training, probe.rho_a)
    found += [network for key, network in networks.items() if not is_stored(key)]
    return found + list(_measured(items))


def _measured(items: Collection[Cell | Probe]) -> Iterator[Portion]:
    """Yield the training of cells, then the probes."""
    for item in items:
        if isinstance(item, Cell):
            yield _training(item)
    for item in items:
        if isinstance(item, Probe):
            poison = item.poison
            yield Portion(
                "robustness",
                poison.attack.label,
                poison.surrogate,
                poison.data.test.size,
                poison.precision,
                min(item.images, 1000),
                item.image_passes(),
            )


def _noise(poison: PoisonPlan) -> Portion:
    attack: Chosen[Attack] = poison.attack
    with plugin_errors(f"attack {attack.name!r}"):
        passes = attack.plugin.image_passes(len(poison.data.train))
    uses_network = attack.plugin.surrogate != "none"
    batch = attack.plugin.option_values().get("batch_size")
    return Portion(
        "noise",
        attack.label,
        poison.surrogate if uses_network else None,
        poison.data.test.size,
        poison.precision,
        batch if isinstance(batch, int) else _BATCH,
        passes,
        poison=poison,
    )


def _network(poison: PoisonPlan, training: Training, rho_a: Radius) -> Portion:
    count = len(poison.data.train)
    return _trained(poison.surrogate, poison, training, rho_a, count, kind="clean network")


def _training(cell: Cell) -> Portion:
    with plugin_errors(f"defense {cell.defense.name!r}"):
        own = cell.defense.plugin.image_passes(cell.images)
    defense = "" if cell.defense.name == "none" or own else cell.defense.label
    tests = cell.training.total_epochs(cell.images) * len(cell.poison.data.test) + cell.images
    work = _trained(
        cell.learner,
        cell.poison,
        cell.training,
        cell.rho_a,
        cell.images,
        tests=tests,
        defense=defense,
        packs=True,
    )
    return replace(work, passes=(work.passes or 0.0) + own)


def _trained(
    learner: Chosen[Learner],
    poison: PoisonPlan,
    training: Training,
    rho_a: Radius,
    images: int,
    *,
    kind: Kind = "training",
    tests: int = 0,
    defense: str = "",
    packs: bool = False,
) -> Portion:
    return Portion(
        kind,
        learner.label,
        learner,
        poison.data.test.size,
        poison.precision,
        min(training.batch_size, images),
        training.image_passes(images, rho_a),
        steps=training.total(images),
        pgd_steps=training.pgd_steps if rho_a else 0,
        tests=tests,
        defense=defense,
        packs=packs,
    )
