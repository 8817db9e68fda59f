"""A hook of tox for machines with little disk: each environment with torch takes 6 GB."""

import os
import shutil
from typing import TYPE_CHECKING

from tox.plugin import impl

if TYPE_CHECKING:
    from tox.tox_env.api import ToxEnv


@impl
def tox_env_teardown(tox_env: "ToxEnv") -> None:
    """Remove an environment once it has run, all but its logs, if TOX_ONE_AT_A_TIME is set."""
    if "TOX_ONE_AT_A_TIME" in os.environ:
        for path in tox_env.env_dir.iterdir():
            if path.is_dir() and path.name != "log":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink()
