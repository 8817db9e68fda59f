"""The schema of a record: one finished cell in `cells/KEY.json`."""

import hashlib
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import msgspec

from unlearnable_bench.errors import UserError
from unlearnable_bench.identity import key_of
from unlearnable_bench.radius import Radius, norm_and_bound
from unlearnable_bench.storage.seal import reformatted_json, sealed_json, whole_json

FORMAT = 2
"""Format 1, of ubench 0.1, wrote `rho_u` as text (`8/255`, `l2 1.3`); it is read too."""

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bound on the noise of one image: a norm and its value.

    Raises:
        ValueError: a value that is not of its norm's kind.
    """

    norm: Literal["linf", "l2", "l0", "none"]
    """`linf`: largest change of a value; `l2`: Euclidean norm; `l0`: number of changed pixels."""

    value: str | float | None
    """`linf`: a fraction of the pixel range as the user wrote it, such as `8/255`; `l2`: a number
    in units of the pixel range; `l0`: a number of pixels; `none`: null."""

    def __post_init__(self) -> None:
        kinds: dict[str, type] = {"linf": str, "l2": float, "l0": float, "none": type(None)}
        if not isinstance(self.value, kinds[self.norm]):
            raise ValueError(f"rho_u: {self.value!r} is not a bound of norm {self.norm}")
        reason = _wrong_radius(str(self.value)) if self.norm == "linf" else None
        if reason:
            raise ValueError(f"rho_u: {reason}")

    @classmethod
    def from_label(cls, label: str) -> "Bound":
        """Return the bound that a label names, as format 1 wrote it: `8/255`, `l2 1.3`, `none`."""
        norm, value = norm_and_bound(label)
        if norm == "linf":
            return cls("linf", value)
        if norm == "none":
            return cls("none", None)
        try:
            return cls("l2" if norm == "l2" else "l0", float(value))
        except ValueError:
            raise ValueError(f"rho_u: {label!r} is not a norm and a number") from None

    def __str__(self) -> str:
        """Return the label of tables: `8/255`, `l2 1.3`, `l0 1` or `none`."""
        if self.norm == "none":
            return self.norm
        value = str(self.value).removesuffix(".0")
        return value if self.norm == "linf" else f"{self.norm} {value}"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One finished cell.

    Examples:
        >>> from unlearnable_bench import Record
        >>> Record.__struct_fields__[4:7]
        ('attack', 'learner', 'defense')
    """

    format: int
    """Version of this schema."""

    key: str
    """SHA-256 (first 32 digits) of `identity`; also the file's name."""

    identity: dict[str, Any]
    """Everything that determines the result: data, attack, learner, defense, schedule, seed."""

    dataset: str
    """Name of the data set."""

    attack: str
    """Label of the attack: its name, with changed options in brackets."""

    learner: str
    """Label of the learner."""

    defense: str
    """Label of the defense."""

    rho_a: str
    """Radius of adversarial training, as the user wrote it."""

    rho_u: Bound
    """Budget of the noise."""

    protect: float
    """Share of the training images (of the protected classes) that are poisoned."""

    preset: str
    """Label of the preset: its name, with changed options in brackets."""

    seed: int
    """Seed of training, and of the noise if `noise_seed` is null."""

    noise_seed: int | None = None
    """Seed of the noise and of the choice of protected images, if it differs from `seed`. Not
    written if null, as in records before 0.3."""

    test_accuracy: Percent
    """Accuracy in percent on clean test images after the last step, or the chosen epoch."""

    protected_accuracy: Percent | None = None
    """The same on the test images of the protected classes; null if all classes are."""

    poisoned_test_accuracy: Percent | None = None
    """Accuracy in percent on test images poisoned as the training images; null if the poison is
    not a function of image and class, and in records before 0.3."""

    peak_accuracy: Percent
    """Highest of `epoch_accuracy`, an upper bound for early stopping."""

    epoch_accuracy: list[Percent]
    """Clean test accuracy in percent after each epoch."""

    train_accuracy: Percent
    """Accuracy in percent on the poisoned training images, after the last step."""

    poison: dict[str, Any]
    """Of the poison: `key`, `sha256`, `budget`, `notes`, `seconds`, `warmup_seconds`, `resumed`;
    from 0.2 on `quality`, the measured `linf`, `l2`, `psnr` and `ssim` (`results/samples.py`)."""

    seconds: dict[str, float]
    """`preparation` (of the images by the defense; part of `training` in old records), `training`,
    `warmup` (compilation and capture) and `evaluation`, separately."""

    resumed: bool
    """Whether training was interrupted; `seconds` are then the sum of the parts."""

    peak_memory: int
    """Peak memory in bytes: of the GPU's allocator, or of the process on a CPU."""

    classes: int | None = None
    """Number of classes of the data set; null in records before 0.2."""

    packed: int = 1
    """Most cells of its process that trained at the same time, itself included, sharing the device,
    and with it `seconds` and `peak_memory`; of a resumed cell, since then."""

    environment: dict[str, Any]
    """Package versions, device, driver, git revision of the code."""

    created: str
    """When the cell was finished, UTC, ISO 8601."""

    @cached_property
    def setting(self) -> str:
        """Everything that determines the result except seeds, as JSON: equal for replicates."""
        rest = {name: value for name, value in self.identity.items() if name != "seed"}
        poison = self.identity["poison"] | {"seed": None}
        return _ENCODER.encode(rest | {"poison": poison}).decode()

    def address(self) -> str:
        """Return the hash of its identity."""
        # msgspec writes some numbers differently from `canonical` but is ten times as fast; if the
        # hash of its text is the key, the text is the same.
        fast = hashlib.sha256(_ENCODER.encode(self.identity)).hexdigest()[:32]
        return fast if fast == self.key else key_of(self.identity)

    @property
    def has_checksum(self) -> bool:
        """Whether it was read from a file with a checksum, as every version from 0.3 on writes."""
        return _SEALED in vars(self)

    def to_json(self) -> str:
        """Return the file's text: the fields, and `checksum` (`storage/seal.py`).

        Raises:
            ValueError: a number that is not finite.
        """
        fields = msgspec.to_builtins(self)
        if self.noise_seed is None:
            del fields["noise_seed"]
        return sealed_json(fields)

    @classmethod
    def from_json(cls, text: bytes) -> "Record":
        """Read and check a record.

        Raises:
            ValueError: invalid JSON, a content that does not match the checksum, a violation of the
                schema or a contradiction to the identity, and which.
        """
        whole = whole_json(text)
        try:
            try:
                record = _DECODER.decode(text if whole is None else whole)
            except msgspec.ValidationError as error:
                record, whole = _not_as_written(text, str(error))
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        if record.format != FORMAT:
            if record.format == 1:
                raise ValueError("rho_u must be a text in format 1")
            raise _other_format(record.format)
        _check_meaning(record)
        if whole is not None:
            vars(record)[_SEALED] = True
        return record


_DECODER = msgspec.json.Decoder(Record)
_ENCODER = msgspec.json.Encoder(order="sorted")


_SEALED = "sealed"


def _not_as_written(text: bytes, reason: str) -> tuple[Record, bytes | None]:
    """Read a record of format 1, or one that another program formatted anew.

    Returns:
        The record, and its text if it has a checksum.

    Raises:
        ValueError: it is neither.
    """
    fields = msgspec.json.decode(text)
    version = fields.get("format") if isinstance(fields, dict) else FORMAT
    whole = None
    if isinstance(fields, dict) and "checksum" in fields:
        whole = reformatted_json(text)
    if version not in (1, FORMAT):
        raise _other_format(version)
    if whole is not None:
        try:
            return _DECODER.decode(whole), whole
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
    if version != 1 or not isinstance(fields.get("rho_u"), str):
        raise ValueError(reason)
    return _of_format_1(fields), None


def _of_format_1(fields: dict[str, Any]) -> Record:
    try:
        bound = msgspec.to_builtins(Bound.from_label(fields["rho_u"]))
        return msgspec.convert(fields | {"format": FORMAT, "rho_u": bound}, Record)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


class NewerFormatError(ValueError):
    """A record of a later version of this program."""


def _other_format(version: Any) -> ValueError:
    newer = isinstance(version, int) and version > FORMAT
    text = f"has format {version!r}, this version reads 1 and {FORMAT}"
    return NewerFormatError(text) if newer else ValueError(text)


# Keys of the object fields that reports read.
_INSIDE = {
    "identity": {"poison"},
    "poison": {"key", "sha256", "budget", "seconds"},
    "seconds": {"training", "warmup", "evaluation"},
    "environment": {"device"},
}


def _check_meaning(record: Record) -> None:
    for name, keys in _INSIDE.items():
        if not keys <= getattr(record, name).keys():
            missing = keys - getattr(record, name).keys()
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    poison, device = record.identity["poison"], record.environment["device"]
    if not (isinstance(poison, dict) and isinstance(device, str)):
        raise ValueError("identity.poison or environment.device has the wrong type")
    noise_seed = record.seed if record.noise_seed is None else record.noise_seed
    seed = record.identity.get("seed", poison.get("seed"))
    if seed != record.seed or poison.get("seed") != noise_seed:
        raise ValueError("seed or noise_seed differs from its identity")
    shown = [record.dataset, record.attack, record.preset]
    if record.identity.get("labels", shown) != shown:
        raise ValueError("dataset, attack and preset differ from the labels of its identity")
    reason = _wrong_radius(record.rho_a)
    if reason:
        raise ValueError(f"rho_a: {reason}")
    _check_identity(record, record.identity)


def _check_identity(record: Record, identity: dict[str, Any]) -> None:
    """Refuse what tables show if the identity, whose hash is the key, says something else."""
    try:
        if "learner" in identity and identity["learner"]["name"] != record.learner:
            _check_label("learner", record.learner, identity)
        if "defense" in identity and identity["defense"]["name"] != record.defense:
            _check_label("defense", record.defense, identity)
        rho_a = identity.get("rho_a", record.rho_a)
        if rho_a != record.rho_a and not _same_radius(rho_a, record.rho_a):
            raise ValueError("rho_a differs from its identity")
        if "protection" in identity and identity["protection"]["share"] != record.protect:
            raise ValueError("protect differs from its identity")
        budget, bound = record.poison["budget"], record.rho_u
        if budget and (budget["norm"] != bound.norm or budget["radius"] != bound.value):
            raise ValueError("rho_u differs from the budget of its poison")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its identity or budget lacks or garbles {error}") from error


def _check_label(kind: str, label: str, identity: dict[str, Any]) -> None:
    """Refuse a label that is not its plugin's name with options in brackets."""
    if not label.startswith(f"{identity[kind]['name']}["):
        raise ValueError(f"{kind} differs from its identity")


@cache
def _same_radius(one: str, other: str) -> bool:
    return _wrong_radius(one) is None and Radius(one) == Radius(other)


@cache
def _wrong_radius(text: str) -> str | None:
    """Return why a text is not a radius, or None; cached, because a folder has few radii."""
    try:
        Radius(text)
    except UserError as error:
        return str(error)
    return None
