"""Accuracy of a network on held-out poisoned images: `detection/KEY.json`.

KEY is the hash of `identity`: the poisoned images, the network and its training. Poisons with equal
images, such as those of clean images with several seeds, share one measurement.
"""

from unlearnable_bench.results.measurements import Measurement, Measurements, Percent


class Detection(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement: a network trained on a part of a poison, tested on the rest."""

    images: str
    """SHA-256 of the poisoned training images, as `sha256` of a poison."""

    test: str
    """Name of the test, such as `linear`, and what differs from its usual form in brackets."""

    accuracy: Percent
    """Accuracy in percent on the held-out images, which are poisoned too."""

    train_accuracy: Percent
    """Accuracy in percent on the images that the network was trained on, without augmentation."""

    held_out: int
    """Number of held-out images."""

    seconds: float
    """Duration, of all parts if it was interrupted."""

    def check(self) -> None:
        """Compare the images with the identity.

        Raises:
            ValueError: they differ.
        """
        if self.images != self.identity.get("images"):
            raise ValueError("its images differ from its identity")


DETECTIONS = Measurements("detection", Detection)
