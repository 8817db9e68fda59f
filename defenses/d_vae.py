"""D-VAE."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearnable_bench import Defense, Harness, ImageSet, Random, UserError, option
from unlearnable_bench.defenses._vae import DVAENetwork, objective
from unlearnable_bench.harness import ShuffledBatches, adam, refuse_divergence, set_lr

_STREAM = "d-vae"
_CLIP = 5.0  # largest norm of a gradient
_FLOOR = 0.002  # mean square of a perturbation that is not penalised
_FREE = 11 / 60  # share of the epochs without that penalty


@dataclass(frozen=True, kw_only=True)
class DVAE(Defense):
    """D-VAE: rate-constrained variational autoencoders that predict the noise and remove it.

    An autoencoder whose latent variables carry at most a few nats per position loses the noise;
    a second decoder, which is also given the class, learns what is lost. A first network of low
    rate estimates the perturbation p, and x becomes x - p; a second one of higher rate does so
    again, and its reconstruction is trained on (Yu et al., ICML 2024,
    [arXiv 2405.01460](https://arxiv.org/abs/2405.01460)).
    """

    needs = "labels"
    version: ClassVar[str] = "2"  # version 1 computed in fp32 with precision bf16, too

    epochs: int = option(60, "number of epochs of each of the two networks", minimum=1)
    batch_size: int = option(128, "number of images in a batch", minimum=1)
    lr: float = option(0.005, "peak learning rate of Adam, with cosine decay per epoch", minimum=0)
    first_rate: float = option(
        1.0, "rate of the first network that is not penalised, in nats per position", minimum=0
    )
    second_rate: float = option(
        3.0, "rate of the second network that is not penalised, in nats per position", minimum=0
    )
    rate_weight: float = option(0.01, "weight of the rate in the loss", minimum=0)
    width: int = option(64, "number of channels of the first stage of the encoder", minimum=2)
    latent: int = option(256, "number of latent channels", minimum=1)

    def check(self, images: ImageSet) -> None:
        """Refuse images of odd size, which the decoder cannot reach.

        Raises:
            UserError: images of odd size.
        """
        if images.size % 2:
            raise UserError(
                f"d-vae halves and doubles images, these have {images.size} px; use images of even "
                "size"
            )

    def prepare(self, images: ImageSet, harness: Harness) -> ImageSet:
        """Train both networks and purify the images twice.

        With precision bf16, the layers that read and write pixels are computed in fp32: a
        perturbation is a few levels, and bf16 rounds values near 1 by one level.
        """
        pixels, labels = harness.tensors(images)
        # In torch's default layout: in the other one, torch's gradients of these networks are not
        # reliable on a CPU.
        pixels = pixels.contiguous()
        rates = {"first": self.first_rate, "second": self.second_rate}
        networks = {stage: self._network(images, harness, stage) for stage in rates}
        optimizers = {stage: adam(network, lr=self.lr) for stage, network in networks.items()}
        random = harness.random(_STREAM)
        harness.keep(**networks, **{f"{stage} Adam": one for stage, one in optimizers.items()})
        for stage, rate in rates.items():
            network = networks[stage]
            self._fit(stage, network, optimizers[stage], pixels, labels, rate, random, harness)
            pixels = self._purified(stage, network, pixels, labels, harness)
        found = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return dataclasses.replace(images, images=found)

    def image_passes(self, images: int) -> float:
        """Count a pass of a network as one of the learner; it takes 3/4 of a ResNet-18's."""
        # Three passes without gradients, each a third of one with it.
        return (2.0 * self.epochs + 1) * images

    def _network(self, images: ImageSet, harness: Harness, stage: str) -> DVAENetwork:
        network = harness.seeded(
            lambda: DVAENetwork(
                images.classes,
                images.size,
                self.width,
                self.latent,
                bf16=harness.precision == "bf16",
            ),
            f"{_STREAM}/{stage}",
        )
        return network.to(harness.device, harness.dtype)

    def _fit(
        self,
        stage: str,
        network: DVAENetwork,
        optimizer: torch.optim.Adam,
        pixels: Tensor,
        labels: Tensor,
        rate: float,
        random: Random,
        harness: Harness,
    ) -> None:
        """Train the network of a stage on the images."""
        batches = ShuffledBatches(
            len(pixels), self.batch_size, harness.seed, f"{_STREAM}/{stage}", harness.device
        )
        penalised = torch.zeros((), dtype=harness.dtype, device=harness.device)

        def step(index: Tensor) -> None:
            x = harness.unit(pixels[index])
            parts = network(x, labels[index], self._noise(x, random))
            optimizer.zero_grad(set_to_none=True)
            objective(parts, x, rate, self.rate_weight, _FLOOR, penalised).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimizer.step()

        captured = harness.capture(step)
        network.train()
        for k in harness.loop(f"d-vae, {stage} network", self.epochs * batches.per_epoch):
            epoch = k // batches.per_epoch
            set_lr(optimizer, 0.5 * self.lr * (1 + math.cos(math.pi * epoch / self.epochs)))
            penalised.fill_(epoch >= _FREE * self.epochs)
            captured(batches[k])
        refuse_divergence(network)

    @torch.no_grad()
    def _purified(
        self, stage: str, network: DVAENetwork, pixels: Tensor, labels: Tensor, harness: Harness
    ) -> Tensor:
        """Return x - p, uint8 [N, 3, H, W]; after the second stage its reconstruction."""
        # Not a stream of the harness, since a resumed run repeats these draws.
        random = Random(harness.seed, f"{_STREAM}/{stage} purification", harness.device)
        found = torch.empty_like(pixels)
        network.eval()
        for part in torch.arange(len(pixels), device=harness.device).split(self.batch_size):
            x, y = harness.unit(pixels[part]), labels[part]
            x = (x - network(x, y, self._noise(x, random)).perturbation).clamp(0, 1)
            if stage == "second":
                x = network(x, y, self._noise(x, random)).image
            found[part] = (255 * x).round().to(torch.uint8)
        return found

    def _noise(self, x: Tensor, random: Random) -> Tensor:
        """Return standard normal draws for the latent variables of a batch."""
        size = x.shape[-1] // 2
        return random.normal(len(x), self.latent, size, size).to(x.dtype)
