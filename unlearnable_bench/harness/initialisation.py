"""Initial weights that do not depend on other threads."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS: Collection[Callable[..., Any]] = {
    Tensor.bernoulli_,
    Tensor.cauchy_,
    Tensor.exponential_,
    Tensor.geometric_,
    Tensor.log_normal_,
    Tensor.normal_,
    Tensor.random_,
    Tensor.uniform_,
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
}


class OwnDraws(TorchFunctionMode):
    """Lets draws on the CPU in this thread come from a generator of their own.

    The values are those of torch's global generator with this seed, from which other threads, such
    as those of a notebook, draw at any time. They follow `torch.manual_seed`, which a plugin may
    call.

    Args:
        seed: seed of the generator.

    Examples:
        >>> with OwnDraws(0):
        ...     weight = torch.nn.Linear(2, 2).weight
        >>> _ = torch.manual_seed(0)
        >>> torch.equal(weight, torch.nn.Linear(2, 2).weight)
        True
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self._seeded = torch.initial_seed()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, with the generator if it draws."""
        options = dict(kwargs or {})
        if options.get("generator") is None and _draws(function):
            if self._seeded != torch.initial_seed():
                self._seeded = torch.initial_seed()
                self._generator.manual_seed(self._seeded)
            options["generator"] = self._generator
        return function(*args, **options)


@cache
def _draws(function: Callable[..., Any]) -> bool:
    """Return whether a function of torch draws and takes a generator."""
    if function in _DRAWS:
        return True
    of_weights = getattr(function, "__module__", None) == torch.nn.init.__name__
    return of_weights and "generator" in inspect.signature(function).parameters
