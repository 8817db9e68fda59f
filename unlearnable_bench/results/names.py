"""Names for tables and figures: `sem[steps=500]` on disk is SEM (steps=500) in a table."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from unlearnable_bench.errors import UserError
from unlearnable_bench.radius import USUAL_RHO_U, Radius, norm_and_bound

# Names in tables; a plugin that is not listed is printed under its own name.
FIELD = {
    "aap": "AAP",
    "adversarial": "adversarial training",
    "ar": "AR",
    "asr": "ASR",
    "aue": "AUE",
    "bilateral-filter": "Bilateral",
    "bit-depth": "BDR",
    "channel-normalisation": "Channel norm.",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "class-random": "Class-wise random",
    "class-tiles": "Class-wise tiles",
    "clean": "Clean",
    "coin": "COIN",
    "colour-gaussian": "Colour + Gaussian",
    "cuda": "CUDA",
    "cutmix": "CutMix",
    "cutout": "Cutout",
    "d-vae": "D-VAE",
    "deep-feature-reweighting": "DFR",
    "densenet121": "DenseNet-121",
    "dune": "DUNE",
    "early-stopping": "Early stopping",
    "em": "EM",
    "em-ops": "EM + OPS",
    "entf": "EntF",
    "fgsm": "FGSM-AT",
    "gaussian-blur": "Gaussian blur",
    "gaussian-filter": "Gaussian filter",
    "gaussian-noise": "Gaussian noise",
    "grayscale": "Grayscale",
    "gue": "GUE",
    "histogram-equalisation": "Hist. eq.",
    "hypo": "HYPO",
    "imagenet-subset": "ImageNet subset",
    "jpeg": "JPEG",
    "lab-whitening": "LAB whitening",
    "lenet5": "LeNet-5",
    "linear": "Linear",
    "low-pass": "Low-pass",
    "mart": "MART",
    "mean-filter": "Mean filter",
    "median-filter": "Median filter",
    "mi-ue": "MI-UE",
    "mixup": "Mixup",
    "mlp2": "MLP-2",
    "mlp3": "MLP-3",
    "mobilenetv2": "MobileNetV2",
    "none": "None",
    "ntga": "NTGA",
    "ops": "OPS",
    "orthogonal-projection": "OP",
    "pgd-l2": "PGD-L2",
    "purified": "Purified",
    "randaugment": "RandAugment",
    "pil": "PIL",
    "random": "Random",
    "rem": "REM",
    "remainder": "Clean subset",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "resnet8": "ResNet-8",
    "rsk": "RSK",
    "sc": "SC",
    "sem": "SEM",
    "senet18": "SENet-18",
    "sep": "SEP",
    "shapes": "Shapes",
    "small-cnn": "Small CNN",
    "svhn": "SVHN",
    "tap": "TAP",
    "tiny-imagenet": "Tiny-ImageNet",
    "trades": "TRADES",
    "tue": "TUE",
    "ueraser-lite": "UEraser-lite",
    "ueraser-max": "UEraser-max",
    "uniform-noise": "Uniform noise",
    "vgg16-bn": "VGG-16-BN",
    "vit-small": "ViT-small",
    "wrn-34-10": "WRN-34-10",
    "yuv-whitening": "YUV whitening",
}


def parse_aliases(text: str) -> dict[str, str]:
    """Read `sem=Ours,em=EM*` as label to name.

    Raises:
        UserError: a part that is not LABEL=NAME, or a label given twice.
    """
    aliases: dict[str, str] = {}
    # A label's own brackets hold commas and equals signs: sem[steps=5,samples=1]=Ours.
    for part in outside_brackets(text, ","):
        *label, name = outside_brackets(part, "=")
        if len(label) != 1 or not label[0].strip() or not name.strip():
            raise UserError(f"aliases={text!r}: write LABEL=NAME, such as sem=Ours,em=EM*")
        if label[0].strip() in aliases:
            raise UserError(f"aliases={text!r} names {label[0].strip()!r} twice")
        aliases[label[0].strip()] = name.strip()
    return aliases


def outside_brackets(text: str, separator: str) -> list[str]:
    """Split a text, except within the brackets of a label: `sem[a=1,b=2],rem`."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == separator and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    rest = text[start:]
    return [*parts, rest] if rest or parts else []


def display(label: str, aliases: Mapping[str, str] = {}) -> str:
    """Return the name of an attack, learner, defense or data set for a table.

    An alias of the whole label wins over one of its first word: with `sem=Ours`,
    `sem[steps=5]` is `Ours (steps=5)`. Combined defenses are named one by one.
    """
    if label in aliases:
        return aliases[label]
    parts = outside_brackets(label, "+")
    if len(parts) > 1:
        return " + ".join(display(part, aliases) for part in parts)
    kind = label[: -len(" #3f2a")] if is_numbered(label) else label
    name, bracket, rest = kind.partition("[")
    shown = aliases.get(name) or FIELD.get(name, name)
    if bracket and rest.endswith("]"):
        shown += f" ({rest[:-1].replace(',', ', ')})"
    elif bracket:
        shown += bracket + rest
    return shown + label[len(kind) :]


def is_numbered(label: str) -> bool:
    """Return whether a label has the hash by which `distinct_labels` tells kinds apart."""
    return re.search(r" #[0-9a-f]{4}$", label) is not None


def option_text(value: Any) -> str:
    """Return an option's value as users write it: the identity's reduced `1/85` is 3/255."""
    text = str(value)
    if re.fullmatch(r"[0-9]+/[0-9]+", text):
        levels = 255 * Fraction(text)
        return f"{levels}/255" if levels.denominator == 1 else text
    return text.lower() if isinstance(value, bool) or value is None else text


def radius_note(attack: str, rho_u: str, *, always: bool = False) -> str:
    """Return the budget of a row's noise: `16/255`, `L2 1.3`; empty for the usual 8/255.

    Args:
        attack: label of the row; clean images have no radius.
        rho_u: the bound as `load_records` returns it.
        always: name the usual radius too.
    """
    norm, bound = norm_and_bound(rho_u)
    if norm == "none":
        return "unbounded"
    if norm != "linf":
        return f"{norm.upper()} {float(bound):.3g}"
    unpoisoned = attack in ("clean", "remainder") and not Radius(rho_u or "0")
    if not rho_u or (not always and (unpoisoned or Radius(rho_u) == USUAL_RHO_U)):
        return ""
    return rho_u
