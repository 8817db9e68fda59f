"""The command line: what it refuses, in which words, and that it leaves no trace of it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnable_bench import api, registry
from unlearnable_bench.cli import main
from unlearnable_bench.radius import Radius

ATTACKS = ("clean", "em", "random", "rem", "sem")
QUICK = ("--set", "training.epochs=1", "--preset", "smoke", "--device", "cpu")
PLUGIN = """
from dataclasses import dataclass
from unlearnable_bench import Attack, Budget, Defense, Poison, Radius, option

@dataclass(frozen=True, kw_only=True)
class {name}({base}):
    '''A plugin of the tests.'''
    {body}
"""
TOO_LOUD = """
    def generate(self, images, harness):
        return Poison(255 - images.images, Budget("linf", Radius("8/255")))
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]


def arrays(train: int = 120, test: int = 40) -> dict[str, Any]:
    """Return four classes of 16 px images that differ in colour."""
    random = np.random.default_rng(0)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
    found: dict[str, Any] = {"class_names": np.array(["red", "green", "blue", "yellow"])}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 4
        noise = random.normal(0, 40, (count, 16, 16, 3))
        images = np.clip(colours[labels][:, None, None] + noise, 0, 255)
        found |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels}
    return found


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz, and in results what is found by `run --methods sem`."""
    folder = tmp_path_factory.mktemp("finished")
    np.savez(folder / "tiny.npz", **arrays())
    settings = {"training.epochs": "1", "sem.steps": "2"}
    data = f"npz:{folder / 'tiny.npz'}"
    plan = api.make_plan(methods=["sem"], dataset=data, settings=settings)
    api.run(plan, folder / "results", device="cpu")
    return folder


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a copy of `finished` in it, and no plugin files."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for kind in registry.REGISTRIES.values():
        monkeypatch.setattr(kind, "_from_files", {})
    return tmp_path


@pytest.fixture
def ubench(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    assert Path.cwd() == workplace

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ubench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert isinstance(stopped.value.code, int)
        return Result(stopped.value.code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(ubench: Command, workplace: Path) -> Callable[..., str]:
    """Run a command that must fail in one line and change nothing; return the line."""

    def call(*arguments: object) -> str:
        before = contents(workplace)
        result = ubench(*arguments)
        assert result.code == 2
        assert result.err.startswith("ubench: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        assert contents(workplace) == before
        return result.err

    return call


def run_tiny(*arguments: object) -> tuple[object, ...]:
    return ("run", *QUICK, "--dataset", "npz:tiny.npz", "--out", "out", *arguments)


@pytest.mark.parametrize(
    ("arguments", "near", "listed"),
    [
        (("--methods", "semm"), "sem", ATTACKS),
        (("--methods", "sem,zzzz"), None, ATTACKS),
        (("--methods", "sem", "--defenses", "nonne"), "none", ("none",)),
        (("--methods", "sem", "--dataset", "shape"), "shapes", ("cifar10", "npz", "shapes")),
        (("--methods", "sem", "--preset", "smok"), "smoke", ("fast", "paper", "smoke")),
        (("--methods", "sem", "--learners", "small-cn"), "small-cnn", ("resnet18", "small-cnn")),
        (("--methods", "sem", "--surrogate", "resnet19"), "resnet18", ("resnet18", "small-cnn")),
        (("--methods", "sem", "--precision", "fp23"), "fp32", ("bf16", "fp32", "fp64")),
        (("--methods", "sem", "--set", "sem.stepz=3"), "steps", ("lr", "samples", "steps")),
        (("--methods", "sem", "--set", "training.epoch=3"), "epochs", ("epochs", "lr")),
        (("--methods", "sem", "--set", "npz.flop=true"), "flip", ("flip", "pad", "path")),
        (("--methods", "sem", "--set", "semm.steps=3"), "sem", ("clean", "sem", "training")),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_of_them(
    refused: Callable[..., str],
    arguments: tuple[str, ...],
    near: str | None,
    listed: tuple[str, ...],
) -> None:
    message = refused(*run_tiny(*arguments))
    assert ("did you mean" in message) == (near is not None)
    assert near is None or f"did you mean '{near}'?" in message
    assert all(name in message.rpartition(":")[2] for name in listed)


def test_an_unknown_report_format_plan_or_kind_is_refused_with_the_list(
    refused: Callable[..., str], workplace: Path
) -> None:
    message = refused("report", "results", "--format", "latx")
    assert "did you mean 'latex'?" in message
    assert "csv, json, latex, markdown" in message
    (plan,) = [path.stem for path in (workplace / "results" / "plans").iterdir()]
    assert plan in refused("report", "results", "--plan", "0" * 8)
    message = refused("list", "attack")
    assert "did you mean 'attacks'?" in message
    assert "attacks, datasets, defenses, learners, presets, reports" in message
    assert "document" in refused("report", "results", "--format", "latex", "--set", "dokument=true")
    assert "cifar10" in refused("data", "import", "cifar", "tiny.npz")


@pytest.mark.parametrize("flag", ["--rho-a", "--rho-u"])
@pytest.mark.parametrize(
    "text", ["4", "4/0", "-1/255", "300/255", "abc", "nan", "4/255,", "1/255x"]
)
def test_what_is_no_radius_is_refused(refused: Callable[..., str], flag: str, text: str) -> None:
    message = refused(*run_tiny("--methods", "sem", f"{flag}={text}"))
    assert flag in message
    assert repr(text.rpartition(",")[2]) in message
    assert "/255" in message


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("sem.steps=-3", ("sem.steps", "at least 1", "-3")),
        ("sem.steps=x", ("sem.steps", "int", "'x'")),
        ("sem.steps=2.5", ("sem.steps", "int", "'2.5'")),
        ("sem.steps=", ("sem.steps", "OPTION=VALUE")),
        ("sem.samples=0", ("sem.samples", "at least 1", "0")),
        ("sem.lr=nan", ("sem.lr", "nan")),
        ("sem.lr=inf", ("sem.lr", "inf")),
        ("sem.rho_u=8", ("sem.rho_u", "'8'", "4/255")),
        ("em.variant=zzz", ("em.variant", "official|misaligned", "'zzz'")),
        ("em.stop_error=1.5", ("em.stop_error", "at most 1", "1.5")),
        ("training.nesterov=maybe", ("training.nesterov", "bool", "'maybe'")),
        ("adversarial.pgd_steps=0", ("adversarial.pgd_steps", "at least 1", "0")),
        ("steps=3", ("SECTION.OPTION=VALUE", "steps=3")),
        (".steps=3", ("SECTION.OPTION=VALUE", ".steps=3")),
        ("rem.steps=3", ("rem.steps", "'rem'", "em, ")),
    ],
)
def test_a_setting_outside_its_meaning_is_refused(
    refused: Callable[..., str], setting: str, parts: tuple[str, ...]
) -> None:
    message = refused(*run_tiny("--methods", "sem,em", "--set", setting))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--methods", ""), "--methods"),
        (("--methods", "sem,,em"), "--methods"),
        (("--methods", "sem", "--seeds", "x"), "--seeds 'x'"),
        (("--methods", "sem", "--seeds", "-1"), "--seeds '-1'"),
        (("--methods", "sem", "--seeds", ""), "--seeds ''"),
        (("--methods", "sem", "--defenses", ","), "--defenses"),
        (("--methods", "sem", "--device", "tpu"), "'tpu'"),
        (("--methods", "sem", "--device", "meta"), "'meta'"),
        (("--methods", "sem", "--dataset", "npz"), "npz:PATH"),
        (("--methods", "sem", "--colour", "red"), "--colour"),
        (("--methods", "sem", "astray"), "astray"),
        ((), "--methods"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(
    refused: Callable[..., str], arguments: tuple[str, ...], part: str
) -> None:
    assert part in refused(*run_tiny(*arguments))


@pytest.mark.skipif(torch.cuda.is_available(), reason="refused only where there is no CUDA")
def test_cuda_without_cuda_is_refused_with_what_to_write(refused: Callable[..., str]) -> None:
    assert "--device cpu" in refused(*run_tiny("--methods", "sem", "--device", "cuda"))


def test_an_unknown_command_is_refused(refused: Callable[..., str]) -> None:
    assert "fly" in refused("fly")
    assert "plane" in refused("data", "plane")


class Trap:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def spoiled(**changes: Any) -> dict[str, Any]:
    return arrays() | changes


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"images": np.zeros(3)}, "lacks x_train, y_train, x_test, y_test, class_names"),
        ({k: v for k, v in arrays().items() if k != "class_names"}, "lacks class_names"),
        (spoiled(x_train=arrays()["x_train"] / 255), "uint8"),
        (spoiled(x_train=arrays()["x_train"][..., 0]), "[N, H, W, 3]"),
        (spoiled(x_train=arrays()["x_train"][:, :8]), "square"),
        (spoiled(x_train=arrays()["x_train"].reshape(-1)), "[N, H, W, 3]"),
        (spoiled(x_test=arrays()["x_test"][:, :8, :8]), "differ in size"),
        (spoiled(x_train=arrays()["x_train"][:0], y_train=arrays()["y_train"][:0]), "no images"),
        (spoiled(y_train=arrays()["y_train"].astype(float)), "integers"),
        (spoiled(y_train=arrays()["y_train"][1:]), "int64 [120]"),
        (spoiled(y_train=arrays()["y_train"] + 1), "0..3"),
        (spoiled(y_test=arrays()["y_test"] - 1), "0..3"),
        (spoiled(y_train=arrays()["y_train"].astype(np.uint64) + 2**63), "0..3"),
        (spoiled(class_names=np.array(["one"])), "two classes"),
    ],
)
def test_an_npz_file_of_another_form_is_refused(
    refused: Callable[..., str], workplace: Path, content: dict[str, Any], part: str
) -> None:
    np.savez(workplace / "odd.npz", **content)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert part in message
    assert "odd" in message


def test_an_npz_file_that_cannot_be_read_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message() -> str:
        return refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))

    odd = workplace / "odd.npz"
    assert "no file odd.npz" in message()
    whole = (workplace / "tiny.npz").read_bytes()
    for text in (b"", b"not an archive", whole[: len(whole) // 2]):
        odd.write_bytes(text)
        assert "odd.npz is not a readable .npz file" in message()
    with odd.open("wb") as file:
        np.save(file, arrays()["x_train"])
    assert "odd.npz is not a readable .npz file" in message()


def test_a_damaged_compressed_npz_file_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    odd = workplace / "odd.npz"
    np.savez_compressed(odd, **arrays())
    damaged = bytearray(odd.read_bytes())
    damaged[500:540] = b"\xff" * 40
    odd.write_bytes(damaged)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert "odd.npz is not a readable .npz file" in message


def test_a_pickled_array_is_refused_and_not_unpickled(
    refused: Callable[..., str], workplace: Path
) -> None:
    trap = np.array([Trap()], dtype=object)
    np.savez(workplace / "odd.npz", **spoiled(class_names=trap))
    message = refused(*run_tiny("--methods", "sem", "--dataset", "npz:odd.npz"))
    assert "odd.npz is not a readable .npz file" in message
    assert not (workplace / "sprung").exists()
    # The trap works where something does unpickle it.
    with np.load(workplace / "odd.npz", allow_pickle=True) as file:
        file["class_names"]
    assert (workplace / "sprung").exists()


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 8) -> None:
    for split in ("train", "test"):
        for k, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for n in range(2):
                picture = Image.new("RGB", (size, size), (100 * k, 50, 10 * n))
                picture.save(root / split / name / f"{n}.png")


def test_a_folder_that_is_no_data_set_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message(name: str) -> str:
        return refused(*run_tiny("--methods", "sem", "--dataset", f"folder:{name}"))

    assert "none/train" in message("none")
    write_images(workplace / "one", ("cat",))
    assert "needs two or more" in message("one")

    write_images(workplace / "torn")
    (workplace / "torn" / "train" / "dog" / "1.png").write_bytes(b"no image")
    assert "torn/train/dog/1.png" in message("torn")

    write_images(workplace / "mixed")
    Image.new("RGB", (9, 9)).save(workplace / "mixed" / "train" / "dog" / "1.png")
    assert "mixed/train/dog/1.png is 9x9" in message("mixed")
    assert "folder.size" in message("mixed")

    write_images(workplace / "more")
    (workplace / "more" / "test" / "emu").mkdir()
    assert "emu" in message("more")

    for name in ("cat", "dog"):
        (workplace / "empty" / "train" / name).mkdir(parents=True)
    (workplace / "empty" / "test").mkdir()
    assert "no images" in message("empty")


@pytest.mark.parametrize("text", [b"P6\n1x 16\n255\n", b"P6\n16"])
def test_an_image_that_its_decoder_stumbles_over_is_named(
    refused: Callable[..., str], workplace: Path, text: bytes
) -> None:
    write_images(workplace / "torn")
    (workplace / "torn" / "train" / "dog" / "1.ppm").write_bytes(text)
    message = refused(*run_tiny("--methods", "sem", "--dataset", "folder:torn"))
    assert "torn/train/dog/1.ppm" in message


def test_out_that_cannot_be_a_results_folder_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    (workplace / "file").write_text("mine")
    (workplace / "mine").mkdir()
    (workplace / "mine" / "thesis.tex").write_text("mine")
    (workplace / "later").mkdir()
    (workplace / "later" / "ubench.json").write_text('{"kind": "unlearnable-bench", "format": 2}')
    for name in ("file", "mine", "later"):
        message = refused(*run_tiny("--methods", "clean", "--out", name))
        assert name in message
        assert "choose another --out" in message
        if name != "later":
            assert name in refused("report", name)


def test_out_below_a_file_is_refused(refused: Callable[..., str]) -> None:
    assert "tiny.npz" in refused(*run_tiny("--methods", "clean", "--out", "tiny.npz/results"))


def test_a_report_that_cannot_be_written_is_refused(refused: Callable[..., str]) -> None:
    assert "nowhere" in refused("report", "results", "--output", "nowhere/table.md")


def test_report_settings_cannot_clash_with_the_api(refused: Callable[..., str]) -> None:
    assert "frame" in refused("report", "results", "--set", "frame=1")


def test_report_without_records_says_what_to_do(
    refused: Callable[..., str], workplace: Path
) -> None:
    assert "ubench run" in refused("report", "nowhere")
    shutil.rmtree(workplace / "results" / "cells")
    assert "ubench run" in refused("report", "results")


AGAIN = ("run", *QUICK, "--dataset", "npz:tiny.npz", "--set", "sem.steps=2", "--methods", "sem")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda _: "[]",
        lambda _: '{"format": 1}',
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: json.dumps(json.loads(text) | {"test_accuracy": "high"}),
        lambda text: json.dumps(json.loads(text) | {"key": "0" * 32}),
        lambda text: json.dumps(json.loads(text) | {"surprise": 1}),
    ],
)
def test_a_damaged_record_is_named_and_left_as_it_is(
    refused: Callable[..., str], workplace: Path, damage: Callable[[str], str]
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    path.write_text(damage(path.read_text()))
    for command in ((*AGAIN, "--out", "results"), ("report", "results")):
        message = refused(*command)
        assert path.name in message
        assert "damaged" in message


@pytest.mark.parametrize(
    "change",
    [
        {"poison": {}},
        {"environment": {}},
        {"seconds": {}},
        {"rho_a": "much"},
        {"epoch_accuracy": ["high"]},
        {"test_accuracy": float("nan")},
    ],
)
def test_a_record_that_lacks_inner_fields_is_named(
    refused: Callable[..., str], workplace: Path, change: dict[str, Any]
) -> None:
    path = min((workplace / "results" / "cells").iterdir())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert path.name in refused("report", "results")


def test_a_damaged_plan_is_named(refused: Callable[..., str], workplace: Path) -> None:
    (path,) = (workplace / "results" / "plans").iterdir()
    path.write_text("{")
    assert path.name in refused("report", "results", "--plan", path.stem)


def test_a_damaged_poison_is_named_and_left_and_other_cells_are_computed(
    ubench: Command, workplace: Path
) -> None:
    (path,) = (workplace / "results" / "poisons").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    result = ubench(*AGAIN, "--out", "results", "--rho-a", "1/255")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert path.name in result.err
    assert path.read_bytes() == damaged
    frame = api.load_records(workplace / "results")
    assert set(frame[frame["rho_a"] == "1/255"]["attack"]) == {"clean"}


def test_a_plugin_file_that_is_none_is_refused(
    refused: Callable[..., str], workplace: Path
) -> None:
    def message(text: str, name: str = "mine.py") -> str:
        (workplace / name).write_text(text)
        line = refused(*run_tiny("--methods", "clean", "--plugin", name))
        assert name in line
        return line

    assert "gone.py: no such file" in refused(
        *run_tiny("--methods", "clean", "--plugin", "gone.py")
    )
    assert "not a Python file" in message("", "mine.txt")
    assert "ZeroDivisionError: division by zero" in message("1 / 0")
    assert "SyntaxError" in message("def")
    assert "ModuleNotFoundError: No module named 'nowhere'" in message("import nowhere")
    assert "defines no Attack" in message("from unlearnable_bench.attacks.sem import SEM")
    taken = PLUGIN.format(name="Sem", base="Attack", body=TOO_LOUD)
    assert "attack 'sem' is registered already" in message(taken)


def test_an_unfinished_plugin_is_named(refused: Callable[..., str], workplace: Path) -> None:
    body = "strength: int = 3\n" + TOO_LOUD
    (workplace / "mine.py").write_text(PLUGIN.format(name="Bare", base="Attack", body=body))
    message = refused(*run_tiny("--methods", "bare", "--plugin", "mine.py"))
    assert "Bare.strength" in message
    assert "strength" in message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (TOO_LOUD, "breaks its promised budget: linf"),
        (TOO_LOUD.replace("255 - images.images", "images.images[:7]"), "returned uint8 [7, 16, "),
        (TOO_LOUD.replace("255 - images.images", "images.images / 255"), "returned float64"),
        (TOO_LOUD.replace("return", "raise ValueError('two\\nlines') #"), "ValueError: two lines"),
    ],
)
def test_a_failing_attack_costs_no_other_cell(
    ubench: Command, workplace: Path, body: str, reason: str
) -> None:
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Attack", body=body))
    result = ubench(*run_tiny("--methods", "mine", "--plugin", "mine.py"))
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("ubench: mine, rho_a 0, seed 0: ")
    assert reason in result.err
    assert list(api.load_records(workplace / "out")["attack"]) == ["clean"]
    assert "1 cells computed" in result.out
    assert not list((workplace / "out").glob("poisons/*"))


def test_a_failing_defense_is_reported_and_costs_no_other_cell(
    ubench: Command, workplace: Path
) -> None:
    body = "def prepare(self, *_):\n        raise RuntimeError('no')"
    (workplace / "mine.py").write_text(PLUGIN.format(name="Mine", base="Defense", body=body))
    result = ubench(*run_tiny("--methods", "clean", "--defenses", "none,mine", "--plugin=mine.py"))
    assert result.code == 2
    assert "clean, mine, rho_a 0, seed 0: RuntimeError: no" in result.err
    assert list(api.load_records(workplace / "out")["defense"]) == ["none"]


@pytest.mark.parametrize("command", [("run",), ("report",), ("list",), ("data", "import")])
def test_help_of_every_command_has_an_example(ubench: Command, command: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        result = ubench(*command, flag)
        assert result.code == 0
        assert f"Example: ubench {' '.join(command)} " in " ".join(result.out.split())


def test_help_stands_where_nothing_is_asked(ubench: Command) -> None:
    result = ubench()
    assert result == ubench("--help")
    assert result.code == 0
    assert all(command in result.out for command in ("run", "report", "list", "data"))


@pytest.mark.parametrize("kind", [*registry.REGISTRIES, "presets"])
def test_list_as_json_is_a_list_of_objects(ubench: Command, kind: str) -> None:
    result = ubench("list", kind, "--json")
    entries = json.loads(result.out)
    assert result.code == 0
    assert entries
    for entry in entries:
        assert entry.keys() == {"name", "summary", "options"}
        assert entry["summary"]
        for option in entry["options"]:
            assert option.keys() == {"name", "type", "default", "summary"}
            assert all(option[key] for key in ("name", "type", "summary"))
    plain = ubench("list", kind).out
    assert [line.split()[0] for line in plain.splitlines()] == [entry["name"] for entry in entries]


def test_list_verbose_names_options_with_type_default_and_meaning(ubench: Command) -> None:
    text = ubench("list", "attacks", "--verbose").out
    assert "variant (official|misaligned|classwise, default official): " in text
    assert "rho_u (radius, default 8/255): radius of the noise, L-infinity" in text


def test_list_shows_plugins_of_a_file(ubench: Command, workplace: Path) -> None:
    text = PLUGIN.format(name="MyNoise", base="Attack", body=TOO_LOUD)
    (workplace / "mine.py").write_text(text)
    assert "my-noise  A plugin of the tests." in ubench("list", "attacks", "--plugin=mine.py").out


def test_list_shows_a_plugin_that_fails_on_import_as_unusable(
    ubench: Command, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "unlearnable_bench.attacks"
    broken = EntryPoint("broken", "no_such_module:Broken", group)
    foreign = EntryPoint("foreign", "json:JSONDecoder", group)

    def with_broken(**wanted: str) -> EntryPoints:
        return EntryPoints([*entry_points(group=group), broken, foreign]).select(**wanted)

    monkeypatch.setattr(registry, "entry_points", with_broken)
    result = ubench("list", "attacks")
    lines = {line.split()[0]: line for line in result.out.splitlines()}
    assert result.code == 0
    assert lines.keys() >= {*ATTACKS, "broken", "foreign"}
    assert "unusable" in lines["broken"]
    assert "No module named 'no_such_module'" in lines["broken"]
    assert "no subclass of Attack" in lines["foreign"]
    assert "unusable" not in lines["sem"]
    assert "no_such_module" in refused("run", "--methods", "broken", "--preset", "smoke")


def test_a_name_that_two_packages_claim_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "unlearnable_bench.attacks"
    twin = EntryPoint("sem", "other_package:SEM", group)

    def with_twin(**wanted: str) -> EntryPoints:
        return EntryPoints([*entry_points(group=group), twin]).select(**wanted)

    monkeypatch.setattr(registry, "entry_points", with_twin)
    message = refused(*run_tiny("--methods", "sem"))
    assert "other_package:SEM" in message
    assert "unlearnable-bench" in message


def test_progress_names_cells_by_their_whole_label(ubench: Command) -> None:
    out = ubench(*run_tiny("--methods", "sem", "--set", "sem.steps=3")).out
    assert "done: sem[steps=3], rho_a 0, seed 0: " in out


def test_a_table_is_whole_where_no_terminal_is(
    ubench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    radii = ",".join(f"{k}/255" for k in range(1, 8))
    out = ubench(
        *run_tiny("--methods", "random", "--no-clean", "--rho-a", radii, "--set=training.steps=1")
    ).out
    header = next(line for line in out.splitlines() if "method" in line)
    assert all(f"rho_a {k}/255" in header for k in range(1, 8))


def test_a_dry_run_shows_the_plan_and_writes_nothing(ubench: Command, workplace: Path) -> None:
    before = contents(workplace)
    result = ubench(*run_tiny("--methods", "sem,em", "--rho-a", "0,4/255", "--dry-run"))
    assert result.code == 0
    assert "cells     6: clean, sem, em x rho_a 0, 4/255 x seeds 0" in result.out
    assert contents(workplace) == before


def test_the_default_folder_is_named_after_data_and_preset(
    ubench: Command, workplace: Path
) -> None:
    ubench("run", *QUICK, "--methods", "clean", "--dataset", "npz:tiny.npz")
    assert len(api.load_records(workplace / "results" / "npz-tiny-smoke")) == 1


def test_report_writes_to_a_file(ubench: Command, workplace: Path) -> None:
    shown = ubench("report", "results", "--format", "csv")
    written = ubench("report", "results", "--format", "csv", "--output", "table.csv")
    assert written == Result(0, "", "")
    assert (workplace / "table.csv").read_text() == shown.out


def test_two_folders_are_compared_cell_by_cell(ubench: Command, workplace: Path) -> None:
    options = ("--methods", "sem", "--rho-a", "0,4/255", "--set", "sem.steps=2")
    ubench(*run_tiny(*options, "--out", "one"))
    ubench(*run_tiny(*options, "--set", "training.epochs=2", "--out", "two"))
    result = ubench("compare", "one", "two")
    assert result.code == 0
    lines = [[part.strip() for part in line.split("│")[1:-1]] for line in result.out.splitlines()]
    rows = [line for line in lines if line]
    assert [row[:2] for row in rows] == [
        [method, rho_a] for method in ("clean", "sem[steps=2]") for rho_a in ("0", "4/255")
    ]
    frames = [api.load_records(workplace / name) for name in ("one", "two")]
    found = [frame.set_index(["attack", "rho_a"])["test_accuracy"] for frame in frames]
    for method, rho_a, *shown in rows:
        one, two = (accuracy[method, rho_a] for accuracy in found)
        assert shown == [f"{one:.1f}", f"{two:.1f}", f"{two - one:+.1f}"]
    assert "over 4 cells" in result.out


def test_folders_without_a_cell_in_common_are_refused(refused: Callable[..., str]) -> None:
    assert "ubench run" in refused("compare", "results", "nowhere")


def test_a_radius_is_shown_as_it_was_written(ubench: Command) -> None:
    out = ubench(*run_tiny("--methods", "clean", "--rho-a", "2/510")).out
    assert "rho_a 2/510" in out
    assert str(Radius("1/255")) not in out


def test_the_installed_command_fails_and_helps_alike(workplace: Path) -> None:
    command = shutil.which("ubench", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("ubench is not installed beside this Python")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [command, *arguments], capture_output=True, text=True, check=False, env=environment
        )

    before = contents(workplace)
    done = call("run", "--methods", "semm", "--preset", "smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ubench: unknown attack 'semm'; did you mean 'sem'?")
    assert done.stderr.count("\n") == 1
    done = call("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(workplace) == before
