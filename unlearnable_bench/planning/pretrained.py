"""Learners that start from the weights of a file: `resnet18:pretrained=FILE`."""

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unlearnable_bench.contract import Learner
from unlearnable_bench.errors import UserError, plugin_errors
from unlearnable_bench.file_kinds import is_pickle, text_kind_of
from unlearnable_bench.harness.weights import digest
from unlearnable_bench.images import Data
from unlearnable_bench.planning.registry import Chosen
from unlearnable_bench.storage import seal

_OPTION = "pretrained"
_WRAPPERS = ("module.", "network.", "_orig_mod.")  # of DataParallel, this package, torch.compile
_COUNTER = "num_batches_tracked"  # of BatchNorm, which old files lack


@dataclass(frozen=True, kw_only=True)
class Pretrained(Learner):
    """An architecture that starts from the weights of a file instead of random ones.

    The last linear layer keeps its random weights if the file has another number of classes, or
    no such layer.

    Attributes:
        architecture: the learner whose module is built.
        path: the file.
        digest: SHA-256 of its tensors when the plan was made.
    """

    architecture: Learner
    path: str
    digest: str

    def __post_init__(self) -> None:
        """Take the architecture's version, by which records know its code."""
        object.__setattr__(self, "version", self.architecture.version)

    def option_values(self) -> dict[str, Any]:
        """Return the architecture's options."""
        return self.architecture.option_values()

    def unread(self) -> dict[str, str]:
        """Return the options that the architecture does not read."""
        return self.architecture.unread()

    def build(self, classes: int, size: int) -> nn.Module:
        """Return the architecture's module with the weights of the file.

        Raises:
            UserError: the file was changed since the plan was made, or does not fit.
        """
        network = self.architecture.build(classes, size)
        tensors = read_weights(self.path)
        if digest(tensors) != self.digest:
            raise UserError(f"{self.path} changed meanwhile; run the command again")
        state, _ = fitted(network, tensors, classes)
        network.load_state_dict(state, strict=False)
        return network


def split_weights(name: str) -> tuple[str, str]:
    """Return the name of an architecture, and the path of its weights or an empty text.

    Raises:
        UserError: something else after the colon.

    Examples:
        >>> from unlearnable_bench.planning.pretrained import split_weights
        >>> split_weights("resnet18:pretrained=a.safetensors"), split_weights("resnet18")
        (('resnet18', 'a.safetensors'), ('resnet18', ''))
    """
    kind, colon, rest = name.partition(":")
    option, equals, path = rest.partition("=")
    if not colon:
        return name, ""
    if option.strip() != _OPTION or not equals or not path:
        raise UserError(
            f"--learners {name}: write {kind}:{_OPTION}=FILE, a .safetensors file with the weights "
            "to start from"
        )
    if not os.path.exists(path):  # noqa: PTH110 - Path refuses long names
        path = os.path.expanduser(path)  # noqa: PTH111 - Path changes the text
    return kind, path


def with_weights(chosen: Chosen[Learner], path: str) -> Chosen[Learner]:
    """Return a learner that starts from the weights of a file.

    Its label has the file's name without the ending, and its identity the hash of the weights.

    Raises:
        UserError: the file cannot be read.
    """
    found = digest(read_weights(path))
    name = re.sub(r"[\[\],=:#]", "_", Path(path).stem)
    if re.fullmatch(r"[0-9a-f]{32}", name):  # a learner that a results folder keeps
        name = name[:8]
    plugin = Pretrained(architecture=chosen.plugin, path=path, digest=found)
    passed = {**chosen.passed, _OPTION: name}
    return replace(chosen, passed=passed, plugin=plugin, weights=found)


def architecture_of(chosen: Chosen[Learner]) -> Chosen[Learner]:
    """Return a learner as it is without pretrained weights."""
    if not isinstance(chosen.plugin, Pretrained):
        return chosen
    passed = {name: value for name, value in chosen.passed.items() if name != _OPTION}
    return replace(chosen, passed=passed, plugin=chosen.plugin.architecture, weights="")


def checked_weights(learners: Sequence[Chosen[Learner]], data: Data) -> tuple[str, ...]:
    """Return a line for the printed plan for each file of weights, which must fit its learner.

    Raises:
        UserError: names the file and what does not fit.
    """
    lines = []
    for chosen in learners:
        plugin = chosen.plugin
        if not isinstance(plugin, Pretrained):
            continue
        classes, size = data.train.classes, data.test.size
        with plugin_errors(f"learner {chosen.name!r} on images of {size} px"):
            network = plugin.architecture.build(classes, size)
        try:
            state, head = fitted(network, read_weights(plugin.path), classes)
        except UserError as error:
            raise UserError(
                f"{plugin.path} does not fit {chosen.name} for {size} px and {classes} classes: "
                f"{error}; give weights of this architecture, in its form for this size"
            ) from None
        lines.append(f"{chosen.name} starts from {len(state)} tensors of {plugin.path}; {head}")
    return tuple(lines)


def fitted(
    network: nn.Module, tensors: Mapping[str, Tensor], classes: int
) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file by their names in a network, and what its head is.

    Names may lack the name of the network's part that has all weights, such as torchvision's
    module after a normalisation, and may have the prefixes of wrappers.

    Args:
        network: the untrained network.
        tensors: the weights of a file.
        classes: number of classes.

    Raises:
        UserError: a tensor that is missing, surplus, or of another shape, type or architecture.
    """
    own = network.state_dict()
    named = _renamed(own, tensors)
    head = _head(network, classes)
    of_head = {name for name in own if head and name.startswith(f"{head}.")}
    # Surplus layers where the head is, such as an MLP for contrastive learning.
    theirs = {name for name in named if head and name.startswith(f"{head}.")}
    fits_head = theirs == of_head and all(named[n].shape == own[n].shape for n in of_head)
    if not fits_head:
        _refuse_head(named, own, head)
        named = {name: tensor for name, tensor in named.items() if name not in theirs}
    for name, tensor in named.items():
        if name not in own:
            raise UserError(f"it has {name}, which the network lacks")
        _refuse_tensor(name, tensor, own[name])
    for name in own:
        if name not in named and name not in of_head and not name.endswith(_COUNTER):
            raise UserError(f"it lacks {name}")
    if fits_head:
        return named, "its last layer is kept"
    return named, f"a new last layer for {classes} classes"


def _renamed(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of the network that most of them have."""
    names = list(tensors)
    while prefix := next((w for w in _WRAPPERS if all(n.startswith(w) for n in names)), ""):
        names = [name.removeprefix(prefix) for name in names]
        if not names:
            break
    parts = {"": None} | {f"{name.partition('.')[0]}.": None for name in own}
    best = max(parts, key=lambda part: sum(f"{part}{name}" in own for name in names))
    if not any(f"{best}{name}" in own for name in names):
        raise UserError(f"none of its {len(names)} tensors has a name of the network's")
    return {f"{best}{name}": t for name, t in zip(names, tensors.values(), strict=True)}


def _head(network: nn.Module, classes: int) -> str:
    """Return the name of the last linear layer, or an empty text if it has not one per class."""
    linear = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return linear[-1][0] if linear and linear[-1][1].out_features == classes else ""


def _refuse_head(named: Mapping[str, Tensor], own: Mapping[str, Tensor], head: str) -> None:
    """Refuse a last layer that takes other features: the layers before it are others, too."""
    weight = f"{head}.weight"
    if weight in named and named[weight].shape[1:] != own[weight].shape[1:]:
        _refuse_tensor(weight, named[weight], own[weight])


def _refuse_tensor(name: str, tensor: Tensor, own: Tensor) -> None:
    if tensor.shape != own.shape:
        raise UserError(f"{name} has shape {list(tensor.shape)} instead of {list(own.shape)}")
    if tensor.is_floating_point() != own.is_floating_point():
        raise UserError(f"{name} is of type {tensor.dtype} instead of {own.dtype}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise UserError(f"{name} holds NaN or infinity")


def read_weights(path: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        UserError: the file is missing, of another kind, or damaged.
    """
    file = Path(path)
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "no such file"
        raise UserError(f"--learners ...:{_OPTION}={path}: {kind}; give a .safetensors file")
    try:
        seal.check_file(file)
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} {_kind_of(file)}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); copy it again") from error
    if not tensors:
        raise UserError(f"{path} holds no tensors; give a file with weights")
    return tensors


def _kind_of(path: Path) -> str:
    """Return what a file is that is not in the safetensors format, and the next step."""
    if is_pickle(path) or zipfile.is_zipfile(path):
        return (
            "is a file of torch.save or another pickle, which can run any code and is never read; "
            "if you trust its source, convert it: safetensors.torch.save_file("
            f"torch.load('{path.name}', map_location='cpu', weights_only=True), "
            f"'{path.stem}.safetensors')"
        )
    kind = text_kind_of(path)
    return kind or "is no safetensors file, or is cut off; give one, or copy it again"
