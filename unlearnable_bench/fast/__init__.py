"""The fast path of the harness, whose only entry point is `accelerate`.

Results equal those of the harness up to rounding. This package is imported only if a run asks for
acceleration. Each technique can be switched off: `ubench bench --without NAME` measures its gain.
"""

from unlearnable_bench.fast.path import TECHNIQUES, accelerate

__all__ = ["TECHNIQUES", "accelerate"]
