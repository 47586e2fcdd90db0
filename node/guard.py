"""The guard of the five flat package names.

``node``, ``federation``, ``cas``, ``linkeddata`` and ``runners`` are names that other distributions also install.
When one of theirs lies in our environment, Python may import theirs instead of ours, or pip may have overwritten ours.
Both are found here before anything runs; ``vasculum doctor``, start-up and a test use the same function.
"""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Final

FLAT_NAMES: Final = ("cas", "linkeddata", "federation", "runners", "node")
DISTRIBUTION: Final = "vasculum"


class FlatNameError(Exception):
    """Another distribution's package stands in for one of ours."""


def check_flat_names() -> Path:
    """Returns the one folder that holds all five packages.

    Raises:
        FlatNameError: a name is missing, comes from elsewhere, or is also owned by another distribution.
    """
    parents: dict[str, Path] = {}
    for name in FLAT_NAMES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise FlatNameError(f"the package {name} is missing: install vasculum again in its own environment")
        parents[name] = Path(spec.origin).resolve().parent.parent
    if len(set(parents.values())) != 1:
        listing = ", ".join(f"{name} from {parent}" for name, parent in parents.items())
        raise FlatNameError(f"packages of other programs stand in for ours ({listing}): use an environment of its own")
    owners = importlib.metadata.packages_distributions()
    for name in FLAT_NAMES:
        others = sorted(set(owners.get(name, ())) - {DISTRIBUTION})
        if others:
            raise FlatNameError(
                f"the distribution {others[0]} also installs a package named {name}: use an environment of its own"
            )
    return parents["node"]
