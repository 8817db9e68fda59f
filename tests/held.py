"""A method whose noise is not finished before a file is there, for tests of executors."""

_PLUGIN = '''
"""Noise that is not finished before a file is there."""
import os
import time
from dataclasses import dataclass
import torch
from unlearnable_bench import Attack, Poison, Radius

@dataclass(frozen=True, kw_only=True)
class Held(Attack):
    """Noise that is not finished before a file is there."""
    surrogate = "own"

    def generate(self, images, harness):
        noise = torch.zeros(images.images.shape)
        harness.network(images)
        harness.keep(noise=noise)
        for step in harness.loop("steps", STEPS):
            WAITS not os.path.exists("release"):
                time.sleep(0.05)
            with open("steps", "a") as file:
                file.write(f"{harness.seed} {step} {WHO}\\n")
            noise += 8 / STEPS
        return Poison.from_noise(images, noise.round().numpy(), Radius("8/255"))
'''


def held(steps: int, waits: str, who: str) -> str:
    """Return the plugin `held`, which notes in the file `steps` who made which step.

    Args:
        steps: number of its steps.
        waits: how a step waits while the file `release` is not there, such as
            `while step > 20 and`; `if` waits once.
        who: expression that names what computes.
    """
    return _PLUGIN.replace("STEPS", str(steps)).replace("WAITS", waits).replace("WHO", who)
