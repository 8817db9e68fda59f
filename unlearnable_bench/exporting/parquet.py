"""A folder that `datasets.load_dataset` reads offline: Parquet with PNG in its rows.

Parquet rather than a folder of pictures, because rows keep their order, the schema holds the names
and the order of the classes, and no split is guessed from the names of files.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.exporting import png
from unlearnable_bench.exporting.content import PoisonedSet, What, digits
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.images import ImageSet

_ROWS = 1000  # of a row group, which readers hold in memory
_SHARD = 500_000_000  # bytes of pixels in a file


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    """Return `pyarrow` and `pyarrow.parquet`, which the extra installs with `datasets`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "the format hf needs pyarrow: pip install 'unlearnable-bench[hf]'"
        ) from error
    return pa, pq


def write(poisoned: PoisonedSet, _what: What, into: Path, show: Progress) -> None:
    """Write `data/SPLIT-00000-of-00001.parquet`: image, label, index and protected of each image.

    Raises:
        UserError: pyarrow is not installed.
    """
    pa, parquet = _pyarrow()
    schema = _schema(pa, poisoned.class_names)
    (into / "data").mkdir()
    for split, images in poisoned.splits().items():
        rows = max(1, _SHARD // images.images[0].nbytes)
        shards = -(-len(images) // rows)
        for k in range(shards):
            name = f"{split}-{k:05}-of-{shards:05}.parquet"
            part = range(k * rows, min((k + 1) * rows, len(images)))
            with parquet.ParquetWriter(into / "data" / name, schema) as file:
                for group in _groups(
                    images, poisoned.flags(split), part, f"writing {split} images", show
                ):
                    file.write_table(pa.Table.from_pydict(group, schema))


def _schema(pa: ModuleType, class_names: tuple[str, ...]) -> Any:
    """Return the schema, with what `datasets` reads of it: an image, and the names of classes.

    Names are made unique with their label, because `datasets` refuses two classes of one name.
    """
    features = {
        "image": {"_type": "Image"},
        "label": {"names": unique(class_names), "_type": "ClassLabel"},
        "index": {"dtype": "int64", "_type": "Value"},
        "protected": {"dtype": "bool", "_type": "Value"},
    }
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {
        "image": picture,
        "label": pa.int64(),
        "index": pa.int64(),
        "protected": pa.bool_(),
    }
    about = json.dumps({"info": {"features": features}})
    return pa.schema([*columns.items()], {"huggingface": about})


def unique(names: tuple[str, ...]) -> list[str]:
    """Return names of which none occurs twice.

    Examples:
        >>> from unlearnable_bench.exporting.parquet import unique
        >>> unique(("cat", "crane", "crane"))
        ['cat', 'crane (1)', 'crane (2)']
    """
    return [f"{one} ({k})" if names.count(one) > 1 else one for k, one in enumerate(names)]


def _groups(
    images: ImageSet, flags: NDArray[np.bool_], part: range, label: str, show: Progress
) -> Iterator[dict[str, list[Any]]]:
    width = digits(len(images))
    for start in range(part.start, part.stop, _ROWS):
        index = range(start, min(start + _ROWS, part.stop))
        yield {
            "image": [
                {"bytes": png.encode(images.images[k]), "path": f"{k:0{width}}.png"}
                for k in show.track(label, len(images), index)
            ],
            "label": images.labels[index.start : index.stop].tolist(),
            "index": list(index),
            "protected": flags[index.start : index.stop].tolist(),
        }


def read(folder: Path, _what: What, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the training images, placed by their index, and their labels.

    Raises:
        UserError: pyarrow is not installed, or a row is missing or damaged.
    """
    _, parquet = _pyarrow()
    files = sorted((folder / "data").glob("train-*.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    index = np.array([row["index"] for row in rows], np.int64)
    if not np.array_equal(np.sort(index), np.arange(count)):
        raise UserError(f"{folder} does not hold each of {count} images once; export it again")
    place = np.argsort(index)
    pixels = [png.decode(rows[k]["image"]["bytes"], rows[k]["image"]["path"]) for k in place]
    return np.stack(pixels), np.array([rows[k]["label"] for k in place], np.int64)


def size(poisoned: PoisonedSet, _what: What) -> int:
    """Return a bound on the bytes of the files."""
    splits = poisoned.splits().values()
    return sum(len(one) * png.largest(one.images[0]) for one in splits) + 100_000
