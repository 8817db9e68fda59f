"""What a file that cannot be read is, told by its first bytes, and what to do about it."""

import zipfile
from pathlib import Path

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_STARTS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file; fetch it: git lfs pull"),
    (b"\x89PNG", "is a picture; save the pixels of all images as one array, with np.save"),
    (b"\xff\xd8\xff", "is a picture; save the pixels of all images as one array, with np.save"),
    (b"\x89HDF", "is an HDF5 file; read it with h5py, and save the array with np.save"),
    (b"MATLAB", "is a MATLAB file; read it with scipy.io.loadmat, and save the array with np.save"),
    (b"PAR1", "is a Parquet file; read it with pandas, and save the array with np.save"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
)  # fmt: skip
_HEIC = (b"hei", b"hev", b"mif", b"msf")  # brands of an ISO base media file
_PICKLE = (
    "is a Python pickle, which can run any code and is never read; if you trust its source, load "
    "it yourself and save the array with np.save"
)


def kind_of(path: Path) -> str | None:
    """Return what a file or folder is and the next step, or None if neither is clear.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from unlearnable_bench.file_kinds import kind_of
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "noise.npy"
        ...     size = file.write_text("<!DOCTYPE html><title>Sign in</title>")
        ...     print(kind_of(file))
        is an HTML page, not the file; download the file itself
    """
    if path.is_dir():
        return "is a folder without pictures; give a file, or a folder of INDEX.png"
    return _file(path) if path.is_file() else None


def _file(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty; copy or download it again"
    found = next((text for magic, text in _STARTS if start.startswith(magic)), None)
    if found is None and is_pickle(path):
        found = _PICKLE
    if start[4:8] == b"ftyp" and start[8:11] in _HEIC:
        found = "is a HEIC picture, whatever its name; convert it to PNG"
    if start.lstrip()[:9].lower() == b"<!doctype" or b"<html" in start.lower():
        found = "is an HTML page, not the file; download the file itself"
    return _archive(path) if found is None and zipfile.is_zipfile(path) else found


def text_kind_of(path: Path) -> str | None:
    """Return what a file is that is no picture: empty, a Git LFS pointer, HTML or HEIC."""
    kind = _file(path) if path.is_file() else None
    known = ("is empty", "is a Git", "is an HTML", "is a HEIC")
    return kind if kind and kind.startswith(known) else None


def folder_kind_of(path: Path) -> str | None:
    """Return what a file is that is given as a folder of images, and the next step."""
    if not path.is_file():
        return None
    if path.suffix.lower() == ".npz":
        return f"is a file, not a folder; write npz:{path}"
    return "is a file, not a folder; if it is an archive, unpack it and give the folder"


def is_pickle(path: Path) -> bool:
    """Return whether a file begins as a pickle of protocol 2 or later, or of protocol 0."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[4:] == b"\0\0\0\0{":  # safetensors, whose length of the header can begin alike
        return False
    return start.startswith((b"\x80", b"(dp", b"(lp"))


def _archive(path: Path) -> str | None:
    """Return what a zip archive without arrays is, or that it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises exceptions of many kinds
        return "is a damaged zip archive; copy or download it again"
    if any(name.endswith("/data.pkl") for name in names):
        return (
            "is a file of torch.save; save its tensor as an array: np.save('noise.npy', "
            f"torch.load('{path.name}', map_location='cpu', weights_only=True).detach().numpy())"
        )
    count = sum(name.lower().endswith(_PICTURES) for name in names)
    if count:
        return f"is a zip of {count} pictures, not of arrays; unpack it, and write folder:DIR"
    if not any(name.endswith(".npy") for name in names):
        return f"is a zip of {len(names)} files without an array"
    return None
