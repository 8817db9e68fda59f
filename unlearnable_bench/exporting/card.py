"""The card of an export: `card.json` for programs, `README.md` for readers and for `datasets`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unlearnable_bench import __version__
from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting.content import PoisonedSet, What
from unlearnable_bench.exporting.formats import FORMATS
from unlearnable_bench.images import sha256_of
from unlearnable_bench.storage.files import read_bytes

CARD = "card.json"
README = "README.md"
_FORMAT = 1  # of the card
_KEYS = {"format", "to", "what", "images", "sha256", "classes"}
_CITATION = f"""@software{{unlearnable_bench,
  title   = {{unlearnable-bench: a benchmark suite for availability poisoning (unlearnable examples)}},
  author  = {{{{The unlearnable-bench developers}}}},
  version = {{{__version__}}},
  year    = {{2026}}
}}"""  # noqa: E501 - a line of BibTeX


def card_of(poisoned: PoisonedSet, form: str, what: What) -> dict[str, Any]:
    """Return the card in JSON's types.

    `sha256.images` is that of the poisoned pixels, uint8 [N, H, W, 3] in C order; records and the
    defense `purified` know the poison by it. `sha256.noise` is that of the noise as exported.
    """
    array = poisoned.array(what)
    size = poisoned.clean.size
    card = {
        "format": _FORMAT,
        "made_by": f"unlearnable-bench {__version__}",
        "to": form,
        "holds": FORMATS[form].holds,
        "what": what,
        "images": len(poisoned),
        "shape": [len(poisoned), size, size, 3],
        "dtype": str(array.dtype),
        "order": "index 0 to N - 1 is the order of the data set's training images",
        "file_names": "of the data set" if poisoned.clean.files else "none; known by index",
        "test_images": 0 if poisoned.test is None else len(poisoned.test),
        "classes": list(poisoned.class_names),
        "protected_images": int(poisoned.protected.sum()),
        "protected_sha256": sha256_of(poisoned.protected),
        "sha256": {"images": poisoned.sha256} | ({what: sha256_of(array)}),
    }
    citation = {"software": _CITATION, "papers": poisoned.facts.get("papers", [])}
    return card | dict(poisoned.facts) | {"cite": citation}


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an export.

    Raises:
        UserError: it cannot be read, or is from a later version.
    """
    path = folder / CARD
    try:
        card = json.loads(read_bytes(path))
        missing = _KEYS - card.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not the card of an export ({error}); remove {folder} and export again"
        ) from error
    if card["format"] != _FORMAT or card["to"] not in FORMATS:
        raise UserError(f"{path} is from another version of ubench; pip install -U it")
    return dict(card)


def readme_of(card: Mapping[str, Any]) -> str:
    """Return the text of `README.md`, whose head tells `datasets` which files are which split.

    Without that head, `datasets` would guess splits by words such as "test" in the names of
    classes.
    """
    return "\n".join([*_head(card), *_text(card)]) + "\n"


def _head(card: Mapping[str, Any]) -> Iterator[str]:
    places = {"folder": "{}/**", "hf": "data/{}-*.parquet"}
    if card["to"] not in places:
        return
    yield from ("---", "configs:", "- config_name: default", "  data_files:")
    for split in ("train", "test") if card["test_images"] else ("train",):
        yield f"  - split: {split}"
        yield f'    path: "{places[card["to"]].format(split)}"'
    yield "---"


def _text(card: Mapping[str, Any]) -> Iterator[str]:
    subject = "Poisoned images" if card["what"] == "images" else "Noise"
    method, data = card.get("method", "?"), card.get("dataset", "?")
    yield f"# {subject}: {method} on {data}"
    yield ""
    yield f"{card.get('summary', '')} Made by {card['made_by']} from the images of {data}, whose"
    yield "terms hold for these as well. Availability poisoning: networks that are trained on them"
    yield "learn the noise instead of the content."
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _rows(card):
        yield f"| {name} | {value} |"
    yield ""
    yield "## Read"
    yield ""
    yield "Known by index, not by position: loaders sort files each in their own way."
    yield ""
    yield "```python"
    yield from _SNIPPETS[card["to"]].format(what=card["what"]).strip().split("\n")
    yield "```"
    yield ""
    yield f"`ubench run --methods file:PATH` (`--dataset {data}`) trains on this folder and checks"
    yield "order, labels and pixels."
    yield ""
    yield "## Cite"
    yield ""
    papers = card["cite"]["papers"]
    yield f"The paper of the method{': ' if papers else ''}{', '.join(papers)}, and the suite:"
    yield ""
    yield from ("```bibtex", *card["cite"]["software"].split("\n"), "```")


def _rows(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "content", f"{card['holds']}"
    yield "images", f"{' x '.join(map(str, card['shape']))}, {card['dtype']}"
    yield "order", card["order"]
    yield "file names", card["file_names"]
    yield "classes", ", ".join(f"{k} {name}" for k, name in enumerate(card["classes"][:20]))
    share = f"{card['protected_images']} of {card['images']}"
    yield "protected", f"{share} carry the noise (`protected`); the others are clean"
    if card["test_images"]:
        yield "test images", f"{card['test_images']}, clean"
    budget = card.get("budget")
    if budget:
        yield "budget", f"{budget['norm']} {budget['radius'] or ''}".strip()
    for name in ("seed", "options", "poison", "record", "command"):
        if card.get(name) not in (None, ""):
            value = card[name]
            yield name, f"`{value if isinstance(value, str) else json.dumps(value)}`"
    for name, digest in card["sha256"].items():
        yield f"SHA-256 of the {name}", f"`{digest}`"


_SNIPPETS = {
    "folder": """
from torchvision.datasets import ImageFolder

train = ImageFolder("train")  # timm: create_dataset("", "train"); datasets: load_dataset(PATH)
path, label = train.samples[0]  # index.csv: file, index, label, class, protected
""",
    "npz": """
import numpy as np

file = np.load("{what}.npz")
array, labels, index = file["{what}"], file["labels"], file["index"]
""",
    "safetensors": """
from safetensors.numpy import load_file

file = load_file("{what}.safetensors")
array, labels, index = file["{what}"], file["labels"], file["index"]
""",
    "hf": """
from pathlib import Path

from datasets import load_dataset

here = str(Path.cwd())  # a name is needed: datasets 5.2 does not read "."
train = load_dataset(here, split="train")  # image, label, index, protected
""",
    "webdataset": """
from glob import glob

import webdataset as wds

shards = sorted(glob("train-*.tar"))  # KEY.png, KEY.cls, KEY.json: index, class, protected
train = wds.WebDataset(shards, shardshuffle=False).decode("rgb8")
""",
}


def check_pixels(folder: Path, card: Mapping[str, Any], array: np.typing.NDArray[Any]) -> None:
    """Refuse an array that is not the one that was exported.

    Raises:
        UserError: its shape or SHA-256 is not that of the card.
    """
    wanted = card["sha256"].get(card["what"])
    if list(array.shape) != card["shape"] or sha256_of(array) != wanted:
        raise UserError(
            f"{folder} is damaged or changed: its {card['what']} do not match card.json; export it "
            "again"
        )
