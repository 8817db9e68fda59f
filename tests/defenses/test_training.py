"""Each defense trains: ordinarily and adversarially."""

import math

import pytest
from helpers import make_harness, random_images

from unlearnable_bench import Defense, Radius
from unlearnable_bench.defenses.bilateral_filter import BilateralFilter
from unlearnable_bench.defenses.bit_depth import BitDepth
from unlearnable_bench.defenses.channel_normalisation import ChannelNormalisation
from unlearnable_bench.defenses.coin import COIN
from unlearnable_bench.defenses.colour_gaussian import ColourGaussian
from unlearnable_bench.defenses.cutmix import CutMix
from unlearnable_bench.defenses.cutout import Cutout
from unlearnable_bench.defenses.fgsm import FGSM
from unlearnable_bench.defenses.gaussian_blur import GaussianBlur
from unlearnable_bench.defenses.gaussian_filter import GaussianFilter
from unlearnable_bench.defenses.gaussian_noise import GaussianNoise
from unlearnable_bench.defenses.grayscale import Grayscale
from unlearnable_bench.defenses.histogram_equalisation import HistogramEqualisation
from unlearnable_bench.defenses.jpeg import JPEG
from unlearnable_bench.defenses.lab_whitening import LABWhitening
from unlearnable_bench.defenses.low_pass import LowPass
from unlearnable_bench.defenses.mart import MART
from unlearnable_bench.defenses.mean_filter import MeanFilter
from unlearnable_bench.defenses.median_filter import MedianFilter
from unlearnable_bench.defenses.mixup import Mixup
from unlearnable_bench.defenses.orthogonal_projection import OrthogonalProjection
from unlearnable_bench.defenses.pgd_l2 import PGDL2
from unlearnable_bench.defenses.randaugment import RandAugment
from unlearnable_bench.defenses.rsk import RSK
from unlearnable_bench.defenses.trades import TRADES
from unlearnable_bench.defenses.ueraser import UEraserLite, UEraserMax
from unlearnable_bench.defenses.yuv_whitening import YUVWhitening
from unlearnable_bench.learners.small_cnn import SmallCNN
from unlearnable_bench.running.training import train
from unlearnable_bench.schedule import Training

DEFENSES: list[type[Defense]] = [
    BilateralFilter,
    BitDepth,
    ChannelNormalisation,
    COIN,
    ColourGaussian,
    CutMix,
    Cutout,
    FGSM,
    GaussianBlur,
    GaussianFilter,
    GaussianNoise,
    Grayscale,
    HistogramEqualisation,
    JPEG,
    LABWhitening,
    LowPass,
    MART,
    MeanFilter,
    MedianFilter,
    Mixup,
    OrthogonalProjection,
    PGDL2,
    RandAugment,
    RSK,
    TRADES,
    UEraserLite,
    UEraserMax,
    YUVWhitening,
]


@pytest.mark.parametrize("rho_a", ["0", "4/255"])
@pytest.mark.parametrize("defense", DEFENSES)
def test_training_takes_two_steps(defense: type[Defense], rho_a: str) -> None:
    images, test = random_images(count=12, size=16, seed=1), random_images(count=5, size=16, seed=2)
    harness = make_harness("fp32", learner=SmallCNN(width=4))
    training = Training(batch_size=6, steps=2, pgd_steps=2)
    outcome = train(images, test, defense(), Radius(rho_a), training, harness)
    assert len(outcome.accuracy) == 1
    assert math.isfinite(outcome.accuracy[0])
