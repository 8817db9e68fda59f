"""Figures of the injected faults."""

from collections.abc import Callable

import pytest

from faults.world import Tally


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[[str, Tally], None]:
    """Note how many faults of a kind were injected and survived, and fail if not all were."""

    def check(kind: str, tally: Tally) -> None:
        figures = [kind, tally.injected, tally.injected - len(tally.faulty)]
        request.node.user_properties.append(("faults", figures))
        assert tally.injected
        assert not tally.wrong, "\n".join([f"{len(tally.wrong)} wrong:", *tally.wrong[:20]])

    return check
