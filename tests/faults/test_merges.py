"""Results folders that are copied over each other, in part, in any order, by tools with bugs."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.injection import killing, operations
from faults.world import ALL, Tally, World, elsewhere, sample

# Names that sync programs and file systems give to a second version of a file.
_CONFLICTS = (
    "{stem} (conflicted copy 2026-01-02){suffix}",
    "{stem}.sync-conflict-20260102-030405-ABCDEFG{suffix}",
    "{stem} (1){suffix}",
    "{stem}-laptop{suffix}",
    "._{stem}{suffix}",
    ".{stem}{suffix}.XyZ123",
    "{stem}{suffix}~",
    "{stem}{suffix}.part",
)


def test_folders_merge_in_any_order_and_in_part(
    tmp_path: Path, survived: Callable[[str, Tally], None]
) -> None:
    place = tmp_path / "world"
    place.mkdir()
    survived("merges", elsewhere(merge_all, place))


def merge_all(place: Path) -> Tally:
    world, tally = World(place, "run"), Tally()
    sources = [place.parent / "world-reference" / "out", *_unfinished(world)]
    files = [(source, path) for source in sources for path in _results(source)]

    @settings(
        max_examples=300 if ALL else 20,
        deadline=None,
        derandomize=not ALL,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        order=st.lists(st.sampled_from(files), max_size=40, unique=True),
        cut=st.lists(st.booleans(), min_size=40, max_size=40),
        conflicts=st.lists(
            st.tuples(st.sampled_from(files), st.sampled_from(_CONFLICTS)), max_size=4
        ),
        damaged=st.booleans(),
    )
    def merged(
        order: list[tuple[Path, Path]],
        cut: list[bool],
        conflicts: list[tuple[tuple[Path, Path], str]],
        damaged: bool,
    ) -> None:
        world.clear(kept=True)
        for (source, path), part in zip(order, cut, strict=False):
            _copy(source / path, Path("out") / path, cut=damaged and part)
        extra = []
        for (source, path), form in conflicts:
            name = form.format(stem=path.stem, suffix=path.suffix)
            extra.append(Path("out") / path.with_name(name))
            _copy(source / path, extra[-1], cut=damaged)
        tally.add(f"{order} {conflicts}", _wrong(world, extra))

    merged()
    return tally


def _unfinished(world: World) -> list[Path]:
    """Return three results folders whose runs were killed."""
    found = []
    for index, number in enumerate(sample(operations(world, "changes"), 3, 5)):
        world.clear(kept=False)
        world.attempt(killing(world.folder, number, 9))
        found.append(Path(f"unfinished-{index}").absolute())
        if Path("out").exists():
            shutil.copytree("out", found[-1], symlinks=True)
    return [path for path in found if path.exists()]


def _results(source: Path) -> list[Path]:
    """Return the stored files below a folder, relative to it, without those of others."""
    paths = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    endings = (".json", ".safetensors", ".lock")
    return [path for path in paths if path.suffix in endings and path.parent.suffix != ".tmp"]


def _copy(source: Path, target: Path, *, cut: bool) -> None:
    target.parent.mkdir(exist_ok=True)
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2] if cut else content)


def _wrong(world: World, extra: list[Path]) -> list[str]:
    wrong = []
    done = world.attempt()
    if done.code not in (0, 2) or done.tables != world.tables:
        wrong.append(f"ends with {done.code}: {done.text[-1000:]}")
    if done.code == 2 and " is damaged (" not in done.text and "left out" not in done.text:
        wrong.append(f"does not say what is damaged: {done.text[-1000:]}")
    lost = [path for path in extra if not path.exists()]
    if lost:
        wrong.append(f"lost: {lost}")
    for path in extra:
        path.unlink(missing_ok=True)
    # Noise and networks of finished cells are not made again.
    needless = re.compile(r"(poisons|networks|strips|noise)/\S+ is missing")
    later = world.repeated(done, kept=True, damaged=True)
    return [*wrong, *(line for line in later if not needless.fullmatch(line))]
