"""The fast path of the harness; its one door is `accelerate`.

Results equal the harness's up to rounding. Nothing imports this package unless a run asks for
acceleration, and every part can be left out: `ubench bench --without NAME` measures what each
one gains.
"""

from unlearnable_bench.fast.path import TECHNIQUES, accelerate

__all__ = ["TECHNIQUES", "accelerate"]
