"""The first reading of all pictures of `ubench protect`, and of those of other people."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unlearnable_bench.errors import UserError
from unlearnable_bench.harness.progress import Progress
from unlearnable_bench.images import ImageSet, Labels, Pixels
from unlearnable_bench.protecting import pictures, sources
from unlearnable_bench.protecting.carrying import resized
from unlearnable_bench.protecting.textures import Textures, textures
from unlearnable_bench.protecting.writing import check_places, digest_of, sha256

if TYPE_CHECKING:
    from unlearnable_bench.protecting.protect import Job


@dataclass(frozen=True)
class Originals:
    """What the first reading of all pictures found.

    Attributes:
        images: the pictures at the working size, uint8 [N, S, S, 3].
        labels: int64 [N].
        bytes: size of each picture's pixels.
        digest: SHA-256 of names, labels and files.
    """

    images: Pixels
    labels: Labels
    bytes: list[int]
    digest: str


@dataclass(frozen=True)
class Others:
    """The other classes of a person: other people's pictures, or generated textures.

    Attributes:
        names: a name for each class; empty: the pictures have several classes of their own.
        images: images of the working size, with labels from 1.
        files: pictures of other people.
        labels: their labels, int64 [N].
        digest: SHA-256 of these files.
        generated: the textures.
    """

    names: tuple[str, ...] = ()
    images: ImageSet | None = None
    files: tuple[Path, ...] = ()
    labels: Labels = field(default_factory=lambda: np.empty(0, np.int64))
    digest: str = ""
    generated: Textures | None = None


def read_all(
    found: sources.Sources, job: "Job", show: Progress, *, copied: bool = True
) -> Originals:
    """Read every picture once, so that one that cannot be used is refused before any work.

    Args:
        found: the pictures.
        job: what is asked for.
        show: display of the loop.
        copied: whether they will be written, in the format of the job.

    Raises:
        UserError: a picture that cannot be read, or that the format cannot hold.
    """
    images = np.empty((len(found.pictures), job.size, job.size, 3), np.uint8)
    sizes, lines = [], []
    for k in show.track("reading", len(images), range(len(images))):
        source = found.pictures[k]
        picture = pictures.read(source.file)
        if copied:
            pictures.check_format(picture, source.file, job.form)
        images[k] = resized(picture.pixels, job.size)
        # Noisy pixels hardly shrink; a lossless file is about as large as they are.
        sizes.append(picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes))
        lines.append(f"{source.name} {source.label} {sha256(source.file)}")
    labels = np.array([picture.label for picture in found.pictures], np.int64)
    return Originals(images, labels, sizes, digest_of([*found.class_names, *lines]))


def other_people(job: "Job") -> sources.Sources | None:
    """Return the pictures of `--others`.

    Raises:
        UserError: they are not class folders of two pictures or more, or overlap with other
            folders, or the job is not for a person.
    """
    if job.others is None:
        return None
    if not job.person:
        raise UserError(
            "--others goes with --person; class folders and --labels have other classes already"
        )
    inside, outside = job.root.resolve(), job.others.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise UserError(
            f"--others {job.others} and {job.root} lie within each other; give other people a "
            "folder of their own"
        )
    check_places(job.others, job.out)
    found = sources.class_folders(job.others)
    found.need(2, "--others needs 2 of each person, to hold one out; add pictures, or remove it")
    return found


def others_of(job: "Job", people: sources.Sources | None, count: int, show: Progress) -> Others:
    """Return the other classes; `count` is the number of the person's pictures."""
    if people:
        held = read_all(people, job, show, copied=False)
        labels = 1 + held.labels
        images = ImageSet(held.images, labels, 1 + len(people.class_names))
        files = tuple(one.file for one in people.pictures)
        return Others(people.class_names, images, files, labels, held.digest)
    if not job.person:
        return Others()
    made = textures(count, job.seed)
    return Others(made.names, made.images(job.size, 1), generated=made)
