"""Names that papers and other benchmarks use for what is registered here under another."""

import os
from pathlib import PurePath

from unlearnable_bench.errors import plain

# By the kind of plugin and the name without case and punctuation: what to write instead.
_OTHER = {
    "attack": {
        "lsp": "sc",
        "shortcut": "sc",
        "shortcuts": "sc",
        "syntheticshortcuts": "sc",
        "ap": "tap",
        "adversarialpoisoning": "tap",
        "adversarialpoisons": "tap",
        "targetedadversarialpoisoning": "tap",
        "errormax": "tap with --set tap.untargeted=true",
        "errormaximizing": "tap with --set tap.untargeted=true",
        "ue": "em",
        "errormin": "em",
        "errorminimizing": "em",
        "minmin": "em",
        "unlearnable": "em",
        "unlearnableexamples": "em",
        "classwise": "em with --set em.variant=classwise",
        "emclasswise": "em with --set em.variant=classwise",
        "robustem": "rem",
        "robusterrorminimizing": "rem",
        "robustunlearnableexamples": "rem",
        "rue": "rem",
        "stableem": "sem",
        "stableerrorminimizing": "sem",
        "stableunlearnableexample": "sem",
        "sue": "sem",
        "neuraltangentgeneralizationattack": "ntga",
        "neuraltangentgeneralizationattacks": "ntga",
        "uniform": "random",
        "randomnoise": "random",
        "none": "clean",
    },
    "defense": {
        "adversarialtraining": "--rho-a 4/255, without a defense",
        "at": "--rho-a 4/255, without a defense",
        "pgd": "--rho-a 4/255, without a defense",
        "pgdat": "--rho-a 4/255, without a defense",
        "fastat": "fgsm",
        "autoaugment": "randaugment, which is the nearest; other policies are not here",
        "fastautoaugment": "randaugment, which is the nearest; other policies are not here",
        "bdr": "bit-depth",
        "bitdepthreduction": "bit-depth",
        "compression": "jpeg",
        "jpegcompression": "jpeg",
        "gray": "grayscale",
        "grey": "grayscale",
        "greyscale": "grayscale",
        "iss": "none,jpeg,grayscale,bit-depth, of which ISS takes the best",
        "op": "orthogonal-projection",
        "es": "early-stopping",
        "clean": "none",
        "standard": "none",
        "std": "none",
    },
    "learner": {
        "vgg16": "vgg16-bn",
        "vit": "vit-small",
        "wideresnet": "wrn-34-10",
        "wideresnet3410": "wrn-34-10",
        "wrn": "wrn-34-10",
        "cnn": "small-cnn",
    },
    "data set": {
        "imagenet": "imagenet-subset:FOLDER",
        "imagenet100": "imagenet-subset:FOLDER",
        "imagefolder": "folder:FOLDER",
        "medmnist": "npz:FILE",
        "pathmnist": "npz:pathmnist.npz",
        "tensorflowdatasets": "tfds:FOLDER",
        "wds": "webdataset:FOLDER",
    },
}


def what_to_write(kind: str, name: str) -> str | None:
    """Return what a user who wrote `name` has to write, or None.

    Args:
        kind: kind of plugin, as in messages ("attack").
        name: a name that is not registered.

    Examples:
        >>> from unlearnable_bench.planning.other_names import what_to_write
        >>> what_to_write("attack", "LSP"), what_to_write("attack", "noise.npy")
        ('sc', 'file:noise.npy')
    """
    ending = PurePath(name).suffix.lower()
    if kind == "attack" and ending in (".npy", ".npz", ".safetensors", ".pt", ".zip"):
        return f"file:{name}"
    if kind == "data set" and ending == ".npz":
        return f"npz:{name}"
    if kind == "data set" and os.path.isdir(name):  # noqa: PTH112 - Path refuses long names
        return f"folder:{name}"
    return _OTHER.get(kind, {}).get(plain(name))
