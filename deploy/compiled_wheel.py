# ruff: noqa: INP001 # a build hook that stands alone, as the script beside it does
"""Put the compiled hot path into the wheel, where HEADWAY_COMPILED names the compiled tree.

Without it the wheel holds the sources alone and fits every platform. With it the wheel fits the
interpreter and the platform that the tree was compiled for, and holds the shared objects beside
those sources, and no others, that they were made from. Source: hatch.pypa.io, "Build hooks".
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
import compile as compiling  # the script beside this one; neither is installed


class CompiledWheel(BuildHookInterface[Any]):
    """Adds shared objects to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what to add (hatchling)."""
        named = os.environ.get("HEADWAY_COMPILED")
        if not named or version == "editable":
            return
        tree, root = Path(named).absolute(), Path(self.root)
        if not compiling.is_compiled(tree, root):
            raise compiling.CannotCompile(
                f"{tree} was not compiled from these sources by this interpreter;"
                f" python deploy/compile.py {named} does that"
            )
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for made in sorted(tree.rglob("*.so")):
            build_data["force_include"][str(made)] = str(made.relative_to(tree))
