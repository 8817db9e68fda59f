"""Files of tensors whose content is verified when they are read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unlearnable_bench.files import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: Any) -> None:
    """Write tensors and metadata atomically; an existing file is replaced.

    Args:
        path: the file, which no other process may write at the same time.
        tensors: tensors by name, on any device.
        metadata: JSON values by name.
    """
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata |= {"key": path.stem, "sha256": _digest(copies)}
    with replacing(path, single_writer=True) as temporary:
        save_file(copies, temporary, {"about": json.dumps(metadata)})


def read_tensors(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file that `write_tensors` wrote, and its metadata.

    Raises:
        ValueError: the file is damaged, or was written under another name.
        OSError: the file is missing or cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = json.loads(file.metadata()["about"])
        if metadata["key"] != path.stem:
            raise ValueError(f"says it is {metadata['key']}")
        if metadata["sha256"] != _digest(tensors):
            raise ValueError("its tensors do not match their SHA-256")
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error).split("\n")[0]) from error
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors on the CPU."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
