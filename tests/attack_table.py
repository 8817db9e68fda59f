"""Each built-in attack at a size for tests, with what its shared checks need to know."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from helpers import Pooled

from unlearnable_bench import Attack, Learner, Radius
from unlearnable_bench.attacks import _contrastive, em, hypo, rem
from unlearnable_bench.attacks.aap import AAP
from unlearnable_bench.attacks.ar import AR
from unlearnable_bench.attacks.asr import ASR
from unlearnable_bench.attacks.aue import AUE
from unlearnable_bench.attacks.class_random import ClassRandom
from unlearnable_bench.attacks.class_tiles import ClassTiles
from unlearnable_bench.attacks.clean import Clean
from unlearnable_bench.attacks.cuda import CUDA
from unlearnable_bench.attacks.dune import DUNE
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.attacks.em_ops import EMOPS
from unlearnable_bench.attacks.entf import EntF
from unlearnable_bench.attacks.file import File
from unlearnable_bench.attacks.gue import GUE
from unlearnable_bench.attacks.hypo import HYPO
from unlearnable_bench.attacks.mi_ue import MIUE
from unlearnable_bench.attacks.ntga import NTGA
from unlearnable_bench.attacks.ops import OPS
from unlearnable_bench.attacks.pil import PIL
from unlearnable_bench.attacks.random import Random
from unlearnable_bench.attacks.rem import REM
from unlearnable_bench.attacks.sc import SC
from unlearnable_bench.attacks.sem import SEM
from unlearnable_bench.attacks.sep import SEP
from unlearnable_bench.attacks.tap import TAP
from unlearnable_bench.attacks.tue import TUE

OFFICIAL: dict[str, Any] = {
    "noise_steps": 5,
    "batch_size": 10,
    "rounds": 2,
    "batches": 3,
    "stop_error": 0.0,
}
CLASSWISE: dict[str, Any] = {
    "variant": "classwise",
    "batch_size": 7,
    "rounds": 6,
    "batches": 3,
    "stop_error": 0.0,
}
MISALIGNED: dict[str, Any] = {
    "variant": "misaligned",
    "noise_steps": 3,
    "batch_size": 10,
    "steps": 5,
}
ALTERNATION: dict[str, Any] = {
    "steps": 3,
    "batch_size": 10,
    "noise_steps": 3,
    "samples": 2,
    "attack_steps": 2,
}
NO_ADVERSARY: dict[str, Any] = {"rho_a": Radius("0")}
AUGMENTED_EM: dict[str, Any] = {"epochs": 2, "batch_size": 10, "noise_steps": 3, "strength": 0.6}
AUGMENTED_AP: dict[str, Any] = {"epochs": 2, "batch_size": 10, "steps": 3, "strength": 0.4}
DUAL: dict[str, Any] = {
    "checkpoints": 1,
    "steps": 3,
    "batch_size": 10,
    "searched": 6,
    "particles": 3,
    "rounds": 4,
}
GAME: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 10,
    "inner_steps": 2,
    "inner_lr": 0.02,
    "width": 2,
}
MOMENTUM: dict[str, Any] = {
    "variant": "moco",
    "epochs": 2,
    "batch_size": 10,
    "steps": 2,
    "queue": 20,
    "splits": 2,
}
EASIER: dict[str, Any] = {"epochs": 2, "batch_size": 10, "steps": 3, "attack_steps": 2}
BLOCKS: dict[str, Any] = {"block": 9, "validation": 5}  # 25 images: two blocks and 7 of a third


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An attack and what is true of it.

    Attributes:
        attack: with options that differ from no step to a few.
        images: how many it needs.
        learner: architecture of its networks; None: one without pooled features.
        seeded: another seed gives another poison.
        stops: label and step of each loop's steps before which it is interrupted in turn.
        module: where it takes the gradients at its images, in order to count them or to die there.
        killed: the attack with the 30th gradient in the middle of a step.
        single: the attack with so few steps that rounding turns few pixels.
        own_noise: each image has noise of its own, which lowers its loss.
        counted: the attacks whose image passes are counted.
        others: options under which other options are read or networks trained.
    """

    attack: Attack
    images: int = 25
    learner: Learner | None = None
    seeded: bool = True
    stops: tuple[tuple[str, int], ...] = ()
    module: ModuleType | None = None
    killed: Attack | None = None
    single: Attack | None = None
    own_noise: bool = False
    counted: tuple[Attack, ...] = ()
    others: tuple[Attack, ...] = ()


TWO_LOOPS = (("surrogate", 1), ("surrogate", 2), ("extraction", 0), ("extraction", 2))

TABLE = {
    "clean": Entry(attack=Clean(), seeded=False),
    "random": Entry(attack=Random()),
    "class-random": Entry(attack=ClassRandom()),
    "class-tiles": Entry(attack=ClassTiles()),
    "file": Entry(attack=File(path="noise.npy"), seeded=False),
    "ar": Entry(attack=AR(), others=(AR(rho_u=Radius("8/255")),)),
    "cuda": Entry(attack=CUDA()),
    "ops": Entry(attack=OPS(), seeded=False, others=(OPS(sparsity=3),)),
    "pil": Entry(
        attack=PIL(epochs=4, batch_size=10, steps=3, block=9),
        stops=(("classifier", 1), ("classifier", 3), ("noise", 0), ("noise", 2)),
        single=PIL(epochs=2, batch_size=10, steps=2),
        others=(PIL(epochs=2, shuffled=False),),
    ),
    "tue": Entry(
        attack=TUE(sweeps=4, steps=3, batch_size=10), stops=(("sweeps", 1), ("sweeps", 3))
    ),
    "tue moco": Entry(
        # Two updates and three visits an epoch.
        attack=TUE(**MOMENTUM),
        stops=(("alternation", 1), ("alternation", 4), ("alternation", 7)),
    ),
    "sc": Entry(attack=SC(patch=4), images=60, others=(SC(patch=4, rho_u=Radius("8/255")),)),
    "em": Entry(
        # One batch a round: a round begins in the middle of an epoch.
        attack=EM(**OFFICIAL | {"rounds": 5, "batches": 1}),
        stops=(("rounds", 1), ("rounds", 2), ("rounds", 3)),
        module=em,
        killed=EM(**OFFICIAL | {"rounds": 3}),
        single=EM(**OFFICIAL | {"rounds": 1}),
        own_noise=True,
        counted=(EM(**OFFICIAL | {"rounds": 3}),),
    ),
    "em classwise": Entry(
        attack=EM(**CLASSWISE), images=80, stops=(("rounds", 1), ("rounds", 4)), module=em
    ),
    "em misaligned": Entry(
        attack=EM(**MISALIGNED),
        stops=(("surrogate", 1), ("surrogate", 4), ("extraction", 0), ("extraction", 2)),
        module=em,
        killed=EM(**MISALIGNED | {"steps": 12}),
        single=EM(**MISALIGNED | {"steps": 2}),
        own_noise=True,
        counted=(EM(**MISALIGNED),),
    ),
    "em-ops": Entry(attack=EMOPS(**OFFICIAL), stops=(("rounds", 1),)),
    "rem": Entry(
        attack=REM(**ALTERNATION),
        stops=TWO_LOOPS,
        module=rem,
        killed=REM(**ALTERNATION | {"steps": 4}),
        single=REM(**ALTERNATION | {"steps": 1}),
        own_noise=True,
        counted=(REM(**ALTERNATION), REM(**ALTERNATION | NO_ADVERSARY)),
        others=(
            REM(**ALTERNATION | NO_ADVERSARY),
            REM(noise_rho_a=Radius("2/255"), **ALTERNATION | NO_ADVERSARY),
            REM(perturbation="none", **ALTERNATION),
            REM(perturbation="none", **ALTERNATION | NO_ADVERSARY),
        ),
    ),
    "sem": Entry(
        attack=SEM(**ALTERNATION),
        stops=TWO_LOOPS,
        module=rem,
        killed=SEM(**ALTERNATION | {"steps": 12}),
        single=SEM(**ALTERNATION | {"steps": 1}),
        own_noise=True,
        counted=(SEM(**ALTERNATION),),
        others=(
            SEM(stop=2, **ALTERNATION),
            SEM(perturbation="gaussian", **ALTERNATION | NO_ADVERSARY),
        ),
    ),
    "aue": Entry(
        attack=AUE(**AUGMENTED_EM),
        stops=(("rounds", 1), ("rounds", 4), ("rounds", 7)),
        module=_contrastive,
        killed=AUE(**AUGMENTED_EM | {"epochs": 5}),
        single=AUE(**AUGMENTED_EM | {"epochs": 1, "lr": 0.01}),
        counted=(AUE(**AUGMENTED_EM),),
    ),
    "aue without augmentation": Entry(
        attack=AUE(**AUGMENTED_EM | {"strength": 0.0}), own_noise=True
    ),
    "aap": Entry(
        attack=AAP(**AUGMENTED_AP),
        stops=(("network", 1), ("network", 3), ("attack", 0), ("attack", 2)),
        module=_contrastive,
        killed=AAP(**AUGMENTED_AP | {"steps": 20}),
        counted=(AAP(**AUGMENTED_AP),),
        others=(AAP(**AUGMENTED_AP | {"untargeted": True}),),
    ),
    "asr": Entry(
        attack=ASR(**ALTERNATION),
        stops=TWO_LOOPS[:3:2],
        module=rem,
        counted=(ASR(**ALTERNATION),),
        others=(ASR(squared=True, **ALTERNATION | NO_ADVERSARY),),
    ),
    "mi-ue": Entry(
        # Two updates and three visits an epoch.
        attack=MIUE(epochs=3, noise_steps=2, batch_size=10, sweep_size=9),
        learner=Pooled(),
        stops=(("alternation", 1), ("alternation", 4), ("alternation", 11)),
        others=(MIUE(epochs=2, noise_steps=2, batch_size=10, rho_a=Radius("8/255")),),
    ),
    "sep": Entry(
        attack=SEP(checkpoints=1, steps=2, draws=2, batch_size=10),
        learner=Pooled(),
        stops=(("attack", 1), ("attack", 2)),
        others=(SEP(checkpoints=1, steps=2, variant="plain"),),
    ),
    "entf": Entry(
        attack=EntF(steps=2, batch_size=10),
        learner=Pooled(),
        stops=(("attack", 1), ("attack", 2)),
    ),
    "tap": Entry(attack=TAP(steps=3, batch_size=10), stops=(("attack", 1), ("attack", 2))),
    "dune": Entry(
        attack=DUNE(**DUAL),
        stops=(("attack", 0), ("attack", 2), ("colours", 0), ("colours", 2)),
        others=(
            DUNE(offset="last", **DUAL),
            DUNE(checkpoints=1, steps=2, colour=Radius("0")),
        ),
    ),
    "gue": Entry(attack=GUE(**GAME), stops=(("game", 1), ("game", 3), ("noise", 0), ("noise", 2))),
    "hypo": Entry(
        attack=HYPO(**EASIER),
        stops=(("network", 1), ("network", 3), ("attack", 0), ("attack", 2)),
        module=hypo,
        killed=HYPO(**EASIER | {"steps": 20}),
        counted=(HYPO(**EASIER), HYPO(norm=0.5, adversary=Radius("0"), **EASIER)),
        others=(HYPO(norm=0.5, adversary=Radius("0"), **EASIER),),
    ),
    "ntga": Entry(
        attack=NTGA(**BLOCKS),
        stops=(("blocks", 1), ("blocks", 2)),
        others=(NTGA(kernel="fnn", **BLOCKS),),
    ),
}
