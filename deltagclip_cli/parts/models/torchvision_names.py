"""Which classification models the installed torchvision has, found without importing it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

PREFIX = "torchvision:"

# Other decorators may stand between this one and the function, over several lines.
_REGISTERED = re.compile(r"^@register_model\(\)$.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


@cache
def torchvision_names() -> Mapping[str, str]:
    """``{"torchvision:resnet50": "torchvision.models.resnet:resnet50", ...}``, sorted by name.

    Torchvision marks every builder with ``@register_model()``. The files directly in its folder
    ``models`` are the classifiers; segmentation, detection and so on have folders of their own.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return MappingProxyType({})
    folder = Path(spec.submodule_search_locations[0], "models")
    found = {
        f"{PREFIX}{name}": f"torchvision.models.{file.stem}:{name}"
        for file in folder.glob("*.py")
        for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    }
    return MappingProxyType(dict(sorted(found.items())))
