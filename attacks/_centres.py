"""Mean features of classes, towards or away from which noise moves an image."""

import torch
from torch import Tensor
from torch.nn import functional

from unlearnable_bench import Harness, ImageSet, Transform, UserError
from unlearnable_bench.harness import Network
from unlearnable_bench.images import ResizedCrop

_BATCH = 500  # number of images in a batch


@torch.no_grad()
def centres_of(images: ImageSet, features: Network, harness: Harness) -> Tensor:
    """Return the mean pooled feature of each class, float [C, D].

    Of the clean images without augmentation; NaN for a class without images.

    Args:
        images: the clean training set.
        features: a network up to its pooled features.
        harness: device and types.
    """
    pixels, labels = harness.tensors(images)
    one_hot = functional.one_hot(labels, images.classes).to(harness.dtype)
    parts = zip(pixels.split(_BATCH), one_hot.split(_BATCH), strict=True)
    sums = [own.T @ features.uncompiled(harness.unit(part)) for part, own in parts]
    return torch.stack(sums).sum(0) / one_hot.sum(0)[:, None]


def refuse_other_views(name: str, images: ImageSet, transform: Transform | ResizedCrop) -> None:
    """Refuse views of another size than the images, since the whole image is optimised.

    Args:
        name: name of the attack.
        images: the training set.
        transform: the random transformation t of training.

    Raises:
        UserError: views are smaller than images.
    """
    view = transform.view(images.size)
    if view != images.size:
        raise UserError(
            f"{name} needs images of the views' size, {view} px, not of {images.size} px; use "
            f"images of that size: --set imagenet-subset.size={view}"
        )
