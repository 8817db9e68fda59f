"""Learners that start from the weights of a file: which files fit, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small_data
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearnable_bench import Plan, UserError, api
from unlearnable_bench.harness.weights import write_tensors
from unlearnable_bench.learners.resnet18 import ResNet18
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.planning import grid
from unlearnable_bench.planning.plan import Cell
from unlearnable_bench.planning.pretrained import fitted

HEAD = ("13.weight", "13.bias")  # of small-cnn
SHORT = {"training.epochs": "1", "training.batch_size": "4"}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(grid, "_data", lambda *_: small_data())
    monkeypatch.chdir(tmp_path)


def weights(classes: int = 3, width: int = 16) -> dict[str, Tensor]:
    """Return weights that are no initial ones: all multiples of 1/64."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(-8, 9, t.shape, generator=generator).to(t.dtype) / 64
        if t.is_floating_point()
        else t
        for name, t in SmallCNN(width=width).build(classes, 16).state_dict().items()
    }


def saved(tensors: dict[str, Tensor], name: str = "start.safetensors") -> str:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, name)
    return name


def plan(*learners: str, **more: Any) -> Plan:
    return api.make_plan(methods=["clean"], learners=learners, settings=SHORT, **more)


def of(path: str, **more: Any) -> Cell:
    (cell,) = plan(f"small-cnn:pretrained={path}", **more).cells
    return cell


def built(cell: Cell) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return cell.learner.plugin.build(3, 16).state_dict()


def fresh() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return SmallCNN().build(3, 16).state_dict()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_the_network_starts_from_the_weights_of_the_file() -> None:
    start = weights()
    assert_same(built(of(saved(start))), start)


@pytest.mark.parametrize("prefix", ["module.", "network.", "_orig_mod.module."])
def test_names_may_have_the_prefixes_of_wrappers(prefix: str) -> None:
    start = weights()
    assert_same(built(of(saved({f"{prefix}{name}": t for name, t in start.items()}))), start)


def test_torchvisions_names_are_those_of_the_network_after_the_normalisation() -> None:
    start = ResNet18().build(3, 16).state_dict()
    inner = {name.removeprefix("1."): t + 1 for name, t in start.items()}
    path = saved(inner)
    (cell,) = plan(f"resnet18:pretrained={path}").cells
    found = cell.learner.plugin.build(3, 16).state_dict()
    assert_same(found, {f"1.{name}": t for name, t in inner.items()})


def test_files_without_the_counters_of_old_batch_norms_fit() -> None:
    start = {name: t for name, t in weights().items() if "num_batches" not in name}
    found = built(of(saved(start)))
    assert_same({name: t for name, t in found.items() if "num_batches" not in name}, start)


@pytest.mark.parametrize(
    "head",
    [
        {"13.weight": torch.ones(7, 64), "13.bias": torch.ones(7)},
        {},
        {"13.0.weight": torch.ones(9, 64), "13.2.weight": torch.ones(5, 9)},
    ],
    ids=["other classes", "no head", "an MLP"],
)
def test_only_a_head_of_other_classes_is_replaced(head: dict[str, Tensor]) -> None:
    body = {name: t for name, t in weights().items() if name not in HEAD}
    made = plan(f"small-cnn:pretrained={saved(body | head)}")
    assert_same(built(made.cells[0]), body | {name: fresh()[name] for name in HEAD})
    assert made.remarks[-1].endswith("; a new last layer for 3 classes")
    kept = plan(f"small-cnn:pretrained={saved(weights())}").remarks[-1]
    assert kept == "small-cnn starts from 20 tensors of start.safetensors; its last layer is kept"


def test_the_key_is_that_of_the_weights_and_not_of_the_path() -> None:
    one = of(saved(weights()))
    other = of(saved(weights(), "elsewhere.safetensors"))
    changed = weights()
    changed["13.bias"] = changed["13.bias"] + 1 / 64
    assert one.key == other.key
    assert of(saved(changed)).key != one.key
    (plain,) = plan("small-cnn").cells
    assert plain.key != one.key
    with_weights, without = one.learner.identity(), plain.learner.identity()
    assert len(with_weights.pop("pretrained")) == 64
    assert with_weights == without  # which has had this key from the first version on


def test_labels_have_the_name_of_the_file() -> None:
    assert of(saved(weights())).learner.label == "small-cnn[pretrained=start]"
    assert of(saved(weights(), "a=[1].safetensors")).learner.label == (
        "small-cnn[pretrained=a__1_]"
    )
    kept = saved(weights(), f"{'0123abcd' * 4}.safetensors")
    assert of(kept).learner.label == "small-cnn[pretrained=0123abcd]"


def test_a_pretrained_learner_stands_next_to_others_in_a_plan() -> None:
    first, second = saved(weights()), saved(weights(width=8), "narrow.safetensors")
    made = plan("small-cnn", f"small-cnn:pretrained={first}", "lenet5")
    assert [cell.learner.label for cell in made.cells] == [
        "small-cnn", "small-cnn[pretrained=start]", "lenet5",
    ]  # fmt: skip
    settings = SHORT | {"small-cnn.width": "8"}
    (cell,) = api.make_plan(
        methods=["em"], clean=False, settings=settings, learners=[f"small-cnn:pretrained={second}"]
    ).cells
    assert cell.learner.label == "small-cnn[pretrained=narrow,width=8]"
    assert cell.poison.surrogate.label == "small-cnn[width=8]"


def test_the_record_and_the_table_show_it(tmp_path: Path) -> None:
    first = saved(weights())
    made = plan("small-cnn", f"small-cnn:pretrained={first}")
    assert not api.run(made, tmp_path / "out", device="cpu").failures
    frame = api.load_records(tmp_path / "out")
    assert frame["learner"].tolist() == ["small-cnn", "small-cnn[pretrained=start]"]
    assert frame["learner_needs"].tolist() == ["nothing", "pretrained weights"]
    assert frame["test_accuracy"].between(0, 100).all()
    assert "pretrained=start" in str(api.render(frame, "main", "markdown"))
    assert "pretrained weights" in str(api.render(frame, "csv", None))


def test_training_starts_where_the_file_ends(tmp_path: Path) -> None:
    """With a learning rate that changes nothing, the kept network is the file's."""
    start = weights()
    learner = [f"small-cnn:pretrained={saved(start)}"]
    made = api.make_plan(
        methods=["clean"], learners=learner, settings=SHORT | {"training.lr": "1e-30"}
    )
    assert not api.run(made, tmp_path / "out", device="cpu", keep_learners=True).failures
    kept = tmp_path / "out" / "learners" / f"{made.cells[0].key}.safetensors"
    found = of(str(kept)).learner.plugin.build(3, 16)
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name], atol=1e-20, rtol=0)


def other_kind() -> str:
    torch.save(weights(), "start.pt")
    return "start.pt"


def other_pickle() -> str:
    Path("start.pkl").write_bytes(pickle.dumps({"a": 1}))
    return "start.pkl"


def cut_off() -> str:
    path = Path(saved(weights()))
    path.write_bytes(path.read_bytes()[:-9])
    return str(path)


def flipped() -> str:
    path = Path("start.safetensors")
    write_tensors(path, weights())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return str(path)


def empty() -> str:
    Path("start.safetensors").touch()
    return "start.safetensors"


def changed(**tensors: Tensor) -> Callable[[], str]:
    names = {"stem": "1.weight", "mean": "2.running_mean", "more": "14.weight"}
    return lambda: saved(weights() | {names[key]: t for key, t in tensors.items()})


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (lambda: "gone.safetensors", "pretrained=gone.safetensors: no such file; give a .safe"),
        (lambda: ".", "pretrained=.: is a folder; give a .safetensors file"),
        (other_kind, "start.pt is a file of torch.save or another pickle, which can run any code"),
        (other_pickle, "start.pkl is a file of torch.save or another pickle"),
        (cut_off, "start.safetensors is no safetensors file, or is cut off"),
        (flipped, "is damaged (its content does not match its checksum); copy it again"),
        (empty, "start.safetensors is empty; copy or download it again"),
        (
            lambda: saved(weights(width=8)),
            "not fit small-cnn for 16 px and 3 classes: 13.weight has shape [3, 32] instead of",
        ),
        (
            changed(stem=torch.zeros(16, 3, 7, 7)),
            "1.weight has shape [16, 3, 7, 7] instead of [16, 3, 3, 3]",
        ),
        (changed(mean=torch.full((16,), torch.nan)), "2.running_mean holds NaN or infinity"),
        (changed(mean=torch.zeros(16, dtype=torch.int8)), "is of type torch.int8 instead of"),
        (changed(more=torch.zeros(1)), "it has 14.weight, which the network lacks"),
        (lambda: saved({"a": torch.zeros(1)}), "none of its 1 tensors has a name of the network"),
        (
            lambda: saved({n: t for n, t in weights().items() if n != "2.weight"}),
            "it lacks 2.weight",
        ),
        (lambda: saved({}), "start.safetensors holds no tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_does_not_fit_is_refused_in_the_plan(
    file: Callable[[], str], words: str
) -> None:
    with pytest.raises(UserError) as refusal:
        of(file())
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learners": ["small-cnn:start"]}, "write small-cnn:pretrained=FILE"),
        ({"learners": ["small-cnn:width=4"]}, "write small-cnn:pretrained=FILE"),
        ({"learners": ["small-cnn:pretrained="]}, "write small-cnn:pretrained=FILE"),
        ({"learners": ["small:pretrained=a"]}, "unknown learner 'small'"),
        ({"surrogate": "small-cnn:pretrained=a"}, "a surrogate is an architecture"),
    ],
)
def test_another_spelling_is_told_the_right_one(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        api.make_plan(methods=["em"], settings=SHORT, **given)


def test_a_file_that_changes_after_the_plan_is_refused() -> None:
    cell = of(saved(weights()))
    saved(weights() | {"13.bias": torch.zeros(3)})
    with pytest.raises(UserError, match="changed meanwhile; run the command again"):
        built(cell)


def test_an_architecture_without_a_linear_layer_at_its_end_fits_as_a_whole() -> None:
    network = nn.Conv2d(3, 3, 1)
    state, head = fitted(network, {"weight": torch.ones(3, 3, 1, 1), "bias": torch.ones(3)}, 3)
    assert [*state] == ["weight", "bias"]
    assert head == "its last layer is kept"
    with pytest.raises(UserError, match="it lacks bias"):
        fitted(network, {"weight": torch.ones(3, 3, 1, 1)}, 3)
