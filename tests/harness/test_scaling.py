"""The kernel that folds is right: here in Triton's interpreter, on a GPU through the networks."""

import subprocess
import sys

import pytest

pytest.importorskip("triton")

# The interpreter is chosen when a kernel is defined. It cuts bf16 off where a GPU rounds.
PROGRAM = """
import torch
from unlearnable_bench.harness import scaling

shapes = [((70, 3, 3, 3), 5, True), ((64, 130, 1, 1), 0, True), ((8, 1, 3, 3), 0, False)]
for shape, missing, mirrors in shapes:
    outs, ins, *kernel = shape
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    factor = torch.randn(outs, generator=generator, dtype=torch.float64)
    scaled = torch.zeros(outs, ins + missing, *kernel, dtype=torch.float64)
    scaled = scaled.contiguous(memory_format=torch.channels_last)
    mirrored = torch.zeros(ins + missing, outs, *kernel, dtype=torch.float64)
    mirrored = mirrored.contiguous(memory_format=torch.channels_last)
    scaling.scale(weight, factor, scaled, mirrored if mirrors else None)
    expected = torch.zeros_like(scaled)
    expected[:, :ins] = weight * factor[:, None, None, None]
    assert torch.equal(scaled, expected), shape
    expected = expected.flip(2, 3).transpose(0, 1) if mirrors else torch.zeros_like(mirrored)
    assert torch.equal(mirrored, expected), shape
print("right")
"""


def test_weights_are_scaled_and_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "right\n", done.stderr


@pytest.mark.parametrize("mirrors", [True, False])
def test_the_kernel_compiles_for_a_gpu(*, mirrors: bool) -> None:
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource, compile  # noqa: A004, PLC0415

    from unlearnable_bench.harness import scaling  # noqa: PLC0415

    pointers = {"weight": "*fp32", "factor": "*fp32", "scaled": "*bf16", "mirrored": "*bf16"}
    sizes = dict.fromkeys(("outs", "ins", "ins_padded", "taps"), "i32")
    signature = pointers | sizes | {"mirrors": "constexpr", "block": "constexpr"}
    source = ASTSource(scaling._scale, signature, {(8,): mirrors, (9,): 64})
    compiled = compile(source, target=GPUTarget("cuda", 90, 32))
    # Both results are written along their memory: one of them passes through shared memory.
    assert (compiled.metadata.shared > 0) == mirrors
