"""From a folder of pictures to a folder of protected pictures and a report about them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress, Renamed, Silent
from unlearnable_bench.images import ImageSet, Pixels
from unlearnable_bench.options import Setting
from unlearnable_bench.planning import registry
from unlearnable_bench.planning.grid import make_plan
from unlearnable_bench.planning.plan import Plan
from unlearnable_bench.presets import default_preset
from unlearnable_bench.protecting import pictures, sources
from unlearnable_bench.protecting.carrying import protected
from unlearnable_bench.protecting.check import (
    SHARE,
    Row,
    check,
    held_out,
    jpeg_loss,
    verdict,
)
from unlearnable_bench.protecting.measures import Measures, measured
from unlearnable_bench.protecting.page import write_page
from unlearnable_bench.protecting.reading import Originals, other_people, others_of, read_all
from unlearnable_bench.protecting.writing import (
    Output,
    check_places,
    output_names,
    report_folder,
)
from unlearnable_bench.radius import Radius
from unlearnable_bench.results.intervals import count
from unlearnable_bench.results.store import ResultsFolder
from unlearnable_bench.running.executor import OnDone
from unlearnable_bench.running.noise import poisoned_images
from unlearnable_bench.storage.files import replacing

DEFAULT_METHOD = "class-tiles"
"""Method where none is named: chosen by experiment on two CPU cores (docs/protect.md)."""
CHECKED = ("small-cnn", "resnet8")
"""Learners of the check."""
_CHECK_SIZE = 32  # pixels of the check's pictures


@dataclass(frozen=True)
class Job:
    """What `ubench protect` is asked to do.

    Attributes:
        root: folder of the originals, which are only read.
        out: folder of the protected pictures.
        labels: CSV file with the columns file,label; None: class folders.
        person: whether all pictures show one person or thing.
        others: class folders of other people, which are only read and are the other classes for a
            person; None: generated textures.
        method: name of an attack with an L-infinity radius.
        strength: largest change of a value.
        settings: options of the method, such as `{"em.variant": "classwise"}`.
        size: working size in pixels, at which the noise is made.
        form: format of the protected pictures.
        quality: of JPEG, 1 to 100.
        keep_metadata: whether EXIF and XMP are kept.
        seed: seed of the noise and of the check.
        checked: learners of the check; empty: no check.
    """

    root: Path
    out: Path
    labels: Path | None = None
    person: bool = False
    others: Path | None = None
    method: str = DEFAULT_METHOD
    strength: Radius = Radius("8/255")
    settings: Mapping[str, Setting] | None = None
    size: int = 32
    form: pictures.Format = "png"
    quality: int = 95
    keep_metadata: bool = False
    seed: int = 0
    checked: Sequence[str] = CHECKED


@dataclass(frozen=True)
class Protected:
    """What `protect` did.

    Attributes:
        out: folder of the protected pictures.
        form: their format.
        page: the report.
        count: number of pictures.
        written: number of pictures that this call wrote; an earlier one wrote the others.
        measures: distance between the originals and the protected pictures.
        accuracies: the check's rows.
        verdict: what they mean; empty: not checked.
    """

    out: Path
    form: pictures.Format
    page: Path
    count: int
    written: int
    measures: Measures
    accuracies: Sequence[Row]
    verdict: str


def protect(
    job: Job,
    device: torch.device,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _text: None,
    on_cell: OnDone = lambda _item, _result: None,
) -> Protected:
    """Protect the pictures of a folder, check the protection and write a report.

    Args:
        job: what to do.
        device: the CPU or a GPU.
        progress: display of the loops.
        say: called with a line about each step.
        on_cell: called with each learner that the check has trained, and its record.

    Raises:
        UserError: pictures, labels, folders or a method that cannot be used. Nothing is written.
    """
    show = progress or Silent()
    check_places(job.root, job.out)
    _check_method(job.method)
    strength = f"{job.method}.rho_u"
    if strength in (job.settings or {}):
        raise UserError(f"--set {strength}: the strength is set by --strength, e.g. 16/255")
    if not job.strength:
        raise UserError("--strength 0 changes no picture; give a fraction such as 8/255")
    for learner in job.checked:
        registry.learners.choose(learner)
    found = _sources(job)
    people = other_people(job)
    names = output_names(found, job.form)
    originals = read_all(found, job, show)
    identity = {
        "pictures": originals.digest, "method": job.method, "strength": str(job.strength),
        "settings": {k: str(v) for k, v in (job.settings or {}).items()}, "size": job.size,
        "format": job.form + (f" {job.quality}" if job.form == "jpeg" else ""),
        "metadata": "kept" if job.keep_metadata else "stripped", "seed": job.seed,
    }  # fmt: skip
    others = others_of(job, people, len(names), show)
    if people:
        identity["others"] = others.digest
    output = Output(job.out, report_folder(job.out), names, identity)
    output.check()
    output.find_written()
    output.check_room(dict(zip(names, originals.bytes, strict=True)))
    class_names = (*found.class_names, *others.names)
    plan = _plan(job, originals, class_names, others.images, device)
    output.open()
    say(_described(job, found, device))
    store = ResultsFolder(output.report / "results", create=True)
    titles = {plan.cells[0].poison.name: f"noise of {job.method}"}
    poisoned = poisoned_images(plan.cells[0], store, device, Renamed(titles, show))
    noise = poisoned[: len(names)].astype(np.int16) - originals.images
    written = _write(job, found, output, noise, show)

    def exact(k: int) -> Pixels:
        pixels = pictures.read(checked[k][0]).pixels
        return protected(pixels, noise[k], job.strength) if k < len(names) else pixels

    pairs = [
        (picture.file, job.out / name) for picture, name in zip(found.pictures, names, strict=True)
    ]
    checked = [*pairs, *((file, file) for file in others.files)]
    labels = np.concatenate([originals.labels, others.labels])
    tested = 1 if job.person else None
    measures = measured(pairs, show)
    rows: list[Row] = []
    if job.checked:
        say(
            f"all pictures are written; check: {', '.join(job.checked)} trained on the originals "
            "and on the protected pictures, tested on a held-out fifth of the originals"
        )
        rows = check(
            checked,
            labels,
            class_names,
            output.report / "results",
            device,
            learners=job.checked,
            size=_CHECK_SIZE,
            seed=job.seed,
            others=others.generated.images(_CHECK_SIZE, 1) if others.generated else None,
            tested=tested,
            exact=exact if job.form == "jpeg" else None,
            progress=progress,
            on_cell=on_cell,
        )
    count_tested = len(held_out(labels, job.seed, tested)[1])
    meaning = verdict(rows, len(class_names), count_tested) if rows else ""
    page = write_page(output.report, job, found, pairs, measures, rows, meaning, count_tested)
    said = [meaning] if rows else []
    said += [jpeg_loss(rows)] if rows and job.form == "jpeg" else []
    return Protected(job.out, job.form, page, len(names), written, measures, rows, " ".join(said))


def _check_method(name: str) -> None:
    """Refuse an unknown method, and one whose noise has no L-infinity radius."""
    kind = registry.attacks.get(name)
    bounded = "rho_u" in {option.name for option in kind.options()}
    if not bounded or name == "file":
        able = [
            one
            for one in registry.attacks.names()
            if one != "file"
            and "rho_u" in {option.name for option in registry.attacks.get(one).options()}
        ]
        why = (
            "the noise in a file is made for other pictures"
            if bounded
            else "its noise has no largest change of a value, which --strength needs"
        )
        raise UserError(f"--method {name}: {why}; available: {', '.join(able)}")


def _sources(job: Job) -> sources.Sources:
    if job.person and job.labels:
        raise UserError("--person and --labels exclude each other: one class needs no labels")
    if job.labels:
        found = sources.labelled(job.root, job.labels)
    elif job.person:
        found = sources.one_class(job.root)
    else:
        found = sources.class_folders(job.root)
    if job.checked:
        found.need(
            SHARE,
            f"the check needs {SHARE}, to hold one out; add pictures, or --no-check",
        )
    return found


def _plan(
    job: Job,
    originals: Originals,
    class_names: Sequence[str],
    more: ImageSet | None,
    device: torch.device,
) -> Plan:
    """Return the plan of one cell whose poison is the noise, at the working size."""
    images, labels = originals.images, originals.labels
    if more:
        images = np.concatenate([images, more.images])
        labels = np.concatenate([labels, more.labels])
    first = np.unique(labels, return_index=True)[1]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pictures.npz"
        # Methods do not see test images, which every data set has.
        np.savez(
            path,
            x_train=images,
            y_train=labels,
            x_test=images[first],
            y_test=labels[first],
            class_names=np.array(class_names),
        )
        return make_plan(
            methods=[job.method],
            dataset=f"npz:{path}",
            preset=default_preset(device.type),
            clean=False,
            rho_u=[job.strength],
            seeds=[job.seed],
            settings=dict(job.settings or {}),
        )


def _write(
    job: Job, found: sources.Sources, output: Output, noise: NDArray[np.int16], show: Progress
) -> int:
    """Write the pictures that are missing; return their number."""
    missing = [k for k, name in enumerate(output.names) if name not in output.written]
    for position in show.track("writing", len(missing), range(len(missing))):
        k = missing[position]
        source, path = found.pictures[k], output.out / output.names[k]
        original = pictures.read(source.file)
        pixels = protected(original.pixels, noise[k], job.strength)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, size=pixels.nbytes) as temporary:
            pictures.write(
                original.with_pixels(pixels),
                temporary,
                job.form,
                keep_metadata=job.keep_metadata,
                quality=job.quality,
            )
            if job.form != "jpeg" and not np.array_equal(pictures.read(temporary).pixels, pixels):
                raise UserError(f"{path} does not hold the pixels it was given; use --format png")
        output.note(output.names[k])
    return len(missing)


def _described(job: Job, found: sources.Sources, device: torch.device) -> str:
    pictures_of = f"{count(len(found.pictures), 'picture')} of {_classes(found)}"
    return f"{job.root}: {pictures_of}; {job.method} of {job.strength} at {job.size} px on {device}"


def _classes(found: sources.Sources) -> str:
    number = len(found.class_names)
    return f"{number} {'class' if number == 1 else 'classes'}"
