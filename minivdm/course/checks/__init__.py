"""One module for each exercise or two (`ch01_forward`, ...): how its check is written, and the mistakes it knows."""

import importlib
import pkgutil

from .. import exercise


def find(name):
    """The exercise for a piece, or None; imports the chapters' checks until it is found."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if name in exercise.registry:
            break
        importlib.import_module(f"{__name__}.{module.name}")
    return exercise.registry.get(name)
