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

from unlearnable_bench.storage import seal
from unlearnable_bench.storage.files import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: Any) -> None:
    """Write tensors and metadata atomically; an existing file is replaced.

    Args:
        path: the file, which no other process may write at the same time.
        tensors: tensors by name, on any device.
        metadata: JSON values by name.
    """
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = json.dumps(metadata | {"key": path.stem})
    size = sum(tensor.nbytes for tensor in copies.values())
    with replacing(path, size=size, single_writer=True) as temporary:
        save_file(copies, temporary, {"about": about, "checksum": seal.PLACEHOLDER})
        seal.seal_file(temporary)


def read_tensors(
    path: Path, device: torch.device, *, bare: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file that `write_tensors` wrote, and its metadata.

    Args:
        path: the file.
        device: where the tensors are wanted.
        bare: accept a file without metadata, as versions before 0.3 wrote some.

    Raises:
        ValueError: the file is damaged, or was written under another name.
        OSError: the file is missing or cannot be read.
    """
    sealed = seal.check_file(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = (file.metadata() or {}).get("about")
        if about is None and bare and not sealed:
            return {name: tensor.to(device) for name, tensor in tensors.items()}, {}
        metadata: dict[str, Any] = json.loads(about or "{}")
        if metadata["key"] != path.stem:
            raise ValueError(f"its key is {metadata['key']}")
        if not sealed and metadata["sha256"] != digest(tensors):
            raise ValueError("its tensors do not match their SHA-256")
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error).split("\n")[0]) from error
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
