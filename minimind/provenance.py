"""What a report is about: the profile, the seed, and a digest of all values of params.yaml that stages read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimind import config
from minimind.tracking import flatten

MAX_NAMED = 4  # values that differ from those of a profile
MAX_DIFFERENT = 20  # with more it is another recipe


@dataclass(frozen=True)
class Provenance:
    """Where results come from. `values` by dotted names, without `runtime`, which changes rounding only."""

    profile: str  # in words: "smoke", "smoke, but for seed"
    seed: int
    digest: str  # of the values; 12 hexadecimal digits
    values: dict[str, str]


def of(sections: Mapping[str, Any], profiles: Path) -> Provenance:
    """The provenance of what was made with these sections of params.yaml; `profiles` holds the profiles."""
    values = flatten(sections)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return Provenance(_profile(values, profiles), sections["seed"], digest[:12], values)


def _profile(values: Mapping[str, str], profiles: Path) -> str:
    """The profile that these values are, or nearly are, in words."""
    different: dict[str, list[str]] = {}
    for path in sorted(profiles.glob("*.yaml")):
        try:
            sections = config.read(path)
        except config.ConfigError:  # somebody is at work on it; it is not what results were made with
            continue
        others = flatten({name: value for name, value in sections.items() if name != "runtime"})
        names = [*values, *(name for name in others if name not in values)]
        different[path.stem] = [name for name in names if values.get(name) != others.get(name)]
    nearest = min(different, key=lambda name: len(different[name]), default=None)
    if nearest is None or len(different[nearest]) > MAX_DIFFERENT:
        return "none of profiles/"
    names = different[nearest]
    if not names:
        return nearest
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{nearest}, but for {', '.join(names[:MAX_NAMED])}{more}"
