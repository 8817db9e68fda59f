"""What attacks and defenses need: declared, printed, and never a test image."""

import dataclasses
import functools
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from documents import DOCS
from helpers import make_harness, random_images
from torch import nn

from unlearnable_bench import (
    Attack,
    Data,
    Defense,
    ImageSet,
    Radius,
    Random,
    Transform,
    UserError,
    api,
)
from unlearnable_bench.attacks.em import EM
from unlearnable_bench.contract import Need, Plugin
from unlearnable_bench.datasets.shapes import Shapes
from unlearnable_bench.defenses.early_stopping import EarlyStopping
from unlearnable_bench.defenses.orthogonal_projection import OrthogonalProjection
from unlearnable_bench.planning import registry

KINDS = {"attacks": registry.attacks, "defenses": registry.defenses}
TEST_LEVEL = 201  # of all values of the test images, and of no other image


def built_in(kind: str) -> dict[str, type[Plugin]]:
    return {
        name: KINDS[kind].get(name)
        for name in KINDS[kind].names()
        if KINDS[kind].get(name).__module__.startswith("unlearnable_bench.")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_plugin_declares_its_need_in_its_own_class(kind: str) -> None:
    """So that `ubench list` can read it without importing torch."""
    for name, cls in built_in(kind).items():
        assert vars(cls)["needs"] in get_args(Need), name
        assert KINDS[kind].needs(name) == vars(cls)["needs"]
        assert (vars(cls)["needs"] == "undeclared") == (name in ("file", "purified"))


@pytest.mark.parametrize("base", [Attack, Defense])
def test_a_plugin_without_a_declaration_is_undeclared_and_an_unknown_one_refused(
    base: type[Attack | Defense],
) -> None:
    assert type("Mine", (base,), {}).needs == "undeclared"
    kind = base.__name__.lower()
    words = f"{kind} Mine declares needs = 'test set'; allowed: nothing, labels, clean subset, "
    with pytest.raises(UserError, match=words):
        type("Mine", (base,), {"needs": "test set"})


def test_the_documented_needs_are_the_declared_ones() -> None:
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    section = text.partition("## What each method needs\n")[2].partition("\n## ")[0]
    rows = [
        line.replace("`", "").split("|")[1:-1]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    found = {
        (kind, name.strip()): need.strip()
        for need, _, *cells in rows
        for kind, cell in zip(KINDS, cells, strict=True)
        for name in cell.split(",")
        if name.strip()
    }
    expected = {(k, n): vars(c)["needs"] for k in KINDS for n, c in built_in(k).items()}
    assert found == expected


def test_list_prints_needs_without_torch() -> None:
    code = (
        "import sys; from unlearnable_bench.screen.listing import listing, print_listing\n"
        "print_listing(listing('attacks', options=False)); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert (
        "Clean images, without noise: the reference for every other row. Needs: nothing." in words
    )
    assert "Needs: labels." in words


@pytest.mark.parametrize(
    "name", [n for n, c in built_in("attacks").items() if vars(c)["needs"] == "nothing"]
)
def test_an_attack_that_needs_nothing_does_not_read_labels(name: str) -> None:
    images = random_images()
    other = ImageSet(images.images, (images.labels + 1) % 3, 3)
    attack = registry.attacks.choose(name).plugin
    first, second = (attack.generate(i, make_harness("fp32")).images for i in (images, other))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "name", [n for n, c in built_in("defenses").items() if vars(c)["needs"] == "nothing"]
)
def test_a_defense_that_needs_nothing_does_not_read_labels(name: str) -> None:
    defense = registry.defenses.choose(name).plugin
    images = random_images(count=6, size=16)
    other = ImageSet(images.images, (images.labels + 1) % 3, 3)
    first, second = (defense.prepare(i, make_harness("fp32")).images for i in (images, other))
    np.testing.assert_array_equal(first, second)
    x, y = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.eye(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    views = [defense.augment(model, x, t, Random(0, "t")) for t in (y, y.flip(0))]
    assert torch.equal(views[0][0], views[1][0])
    assert torch.equal(views[1][1], y.flip(0))
    assert defense.validation_share() == 0
    assert (type(defense).perturb, type(defense).loss) == (Defense.perturb, Defense.loss)


def parts_of(thing: Any) -> Iterator[Any]:
    """Yield what an object leads to: items, closures, owners of methods, and attributes."""
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, types.FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or ())
        yield from thing.__defaults__ or ()
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, np.ndarray):
        yield thing.base
    if not isinstance(thing, type | types.ModuleType):
        yield from attributes_of(thing)


def attributes_of(thing: Any) -> Iterator[Any]:
    yield from getattr(thing, "__dict__", {}).values()
    for cls in type(thing).__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, slot):
                yield getattr(thing, slot)


def holds_a_test_image(thing: Any) -> bool:
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().double().numpy()
    if not isinstance(thing, np.ndarray) or thing.dtype == object or thing.size < 3 * 32 * 32:
        return False
    images = thing.reshape(len(thing), -1) if thing.ndim > 1 else thing[None]
    level = np.isclose(images, TEST_LEVEL, atol=0.1) | np.isclose(images, TEST_LEVEL / 255)
    return bool((level.mean(1) > 0.9).any())


def way_to_a_test_image(start: Any) -> str | None:
    """Walk everything that an object leads to; return the types on the way to a test image."""
    seen, waiting = {id(start)}, [(start, type(start).__name__, (start,))]
    while waiting:
        thing, way, alive = waiting.pop()
        if holds_a_test_image(thing):
            return way
        for part in parts_of(thing):
            if id(part) not in seen and not isinstance(part, str | bytes | int | float | None):
                seen.add(id(part))
                waiting.append((part, f"{way} > {type(part).__name__}", (*alive, part)))
    return None


def test_the_walk_finds_what_is_hidden() -> None:
    test = np.full((2, 32, 32, 3), TEST_LEVEL, np.uint8)

    def closure() -> int:
        return len(test)

    class Slotted:
        __slots__ = ("inner",)

        def __init__(self, inner: Any) -> None:
            self.inner = inner

    unit = torch.tensor(test).permute(0, 3, 1, 2) / 255
    hidden = [{"a": [Slotted(test)]}, closure, functools.partial(print, test[:1]), Slotted(unit)]
    assert all(way_to_a_test_image(thing) for thing in hidden)
    assert way_to_a_test_image({"a": test + np.uint8(1)}) is None


def with_marked_test_images(self: Shapes, load: Callable[[Shapes], Data] = Shapes.load) -> Data:
    data = load(self)
    assert isinstance(data.transform, Transform)
    train = data.train.images.copy()
    train[train == TEST_LEVEL] -= 1
    test = data.test.replaced(np.full_like(data.test.images, TEST_LEVEL))
    return dataclasses.replace(data, train=data.train.replaced(train), test=test, digest=None)


def test_no_object_given_to_a_hook_leads_to_a_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[tuple[str, str | None]] = []

    def spy(cls: type[Plugin], hook: str) -> None:
        inner = getattr(cls, hook)

        def spied(self: Plugin, *given: Any, **named: Any) -> Any:
            if hook not in {name for name, _ in ways} or hook == "prepare":
                everything = [self, *given, *named.values()]
                ways.extend((hook, way_to_a_test_image(one)) for one in everything)
            return inner(self, *given, **named)

        monkeypatch.setattr(cls, hook, spied)

    monkeypatch.setattr(Shapes, "load", with_marked_test_images)
    for hook in ("check", "resolved", "generate"):
        spy(EM, hook)
    spy(OrthogonalProjection, "prepare")
    for hook in ("augment", "perturb", "loss"):
        spy(Defense, hook)
    spy(EarlyStopping, "validation_share")
    plan = api.make_plan(
        methods=["em"],
        defenses=["orthogonal-projection", "early-stopping"],
        rho_a=[Radius("4/255")],
        clean=False,
        settings={
            "shapes.train": "60", "shapes.test": "20", "em.rounds": "1", "em.batches": "1",
            "training.epochs": "2", "adversarial.epochs": "2", "small-cnn.width": "4",
            "orthogonal-projection.steps": "2",
        },
    )  # fmt: skip
    assert not api.run(plan, tmp_path, device="cpu").failures
    hooks = {"check", "resolved", "generate", "prepare", "augment", "perturb", "loss"}
    assert {hook for hook, _ in ways} == hooks | {"validation_share"}
    assert [found for found in ways if found[1]] == []
