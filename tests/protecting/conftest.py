"""Small folders of pictures."""

from pathlib import Path

import pytest
from photo_files import save


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six pictures of different ratios, two of them JPEG and WebP."""
    root = tmp_path / "photos"
    for k in range(6):
        save(root / "cat" / f"{k}.png", 16 + k, 24, seed=k)
        save(root / "dog" / f"{k}.png", 24, 16 + k, seed=10 + k)
    save(root / "cat" / "a.jpg", seed=30)
    save(root / "dog" / "b.webp", seed=31)
    return root
