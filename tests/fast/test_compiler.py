"""Functions are compiled under one lock, which a backward pass must not ask for."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlearnable_bench.fast.compiler import Compiler
from unlearnable_bench.fast.network import FastNetwork
from unlearnable_bench.harness.device import EXCLUSIVE


def taken() -> bool:
    """Return whether other threads wait for the lock."""
    found: list[bool] = []

    def attempt() -> None:
        found.append(EXCLUSIVE.acquire(blocking=False))
        if found[-1]:
            EXCLUSIVE.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not found[0]


def test_a_backward_pass_does_not_wait_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it runs in a thread of its own, while the thread with the lock waits for it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compiler = Compiler()

    def doubled(g: Tensor) -> Tensor:
        return 2 * g

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(_ctx: Any, *grads: Tensor) -> Tensor:
            return compiler.call(doubled, False, grads[0])

    x = torch.zeros(3, requires_grad=True)
    pass_back = Double.apply(x).sum().backward  # type: ignore[no-untyped-call]
    with EXCLUSIVE:
        thread = threading.Thread(target=pass_back, daemon=True)
        thread.start()
        thread.join(20)
    assert x.grad is not None
    assert x.grad.tolist() == [2, 2, 2]


def test_what_is_compiled_is_compiled_and_called_under_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compile_(function: Callable[..., Any], **_options: Any) -> Callable[..., Any]:
        assert taken()
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    compiler = Compiler()

    def function(_x: Tensor) -> bool:
        return taken()

    for size in (1, 2):
        x = torch.zeros(size)
        assert compiler.call(function, False, x)
        assert not compiler.call(
            function, False, x
        )  # compiled for this before: nobody waits for who compiles now


def test_a_network_compiles_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so in its first call of a shape and mode, also outside of captured steps."""
    monkeypatch.setattr(nn.Module, "compile", lambda *_args, **_options: None)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    model = FastNetwork(network, 2, bf16=False, compiler=Compiler(), techniques=())
    found: list[bool] = []
    network.register_forward_hook(lambda *_: found.append(taken()))
    x = torch.zeros(4, 3, 2, 2)
    for _ in range(2):
        model(x)
    model.eval()
    for _ in range(2):
        model(x)
    model(x[:2])
    assert found == [True, False, True, False, True]
