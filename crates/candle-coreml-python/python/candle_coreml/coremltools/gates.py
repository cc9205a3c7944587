"""What `enable` opens in coremltools, and `disable` closes again.

coremltools asks in many modules whether it is on macOS, and of which version, and takes Apple's classes from
its native module `coremltools.libcoremlpython`. `sys.platform` stays as it is: other packages look at it too.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

from ..errors import UnsupportedError
from .engine import Engine

MACOS_VERSION = (26, 0)
"""The version of macOS whose models, features and operations this package has."""

NATIVE = "coremltools.libcoremlpython"
"""The module that coremltools takes Apple's classes from."""

# What is looked for before anything is changed. In versions 8 and 9 it is all there.
NEEDED = {
    "coremltools._deps": ["_IS_MACOS"],
    "coremltools.models.utils": ["_is_macos", "_macos_version"],
    "coremltools.models.model": ["_MLModelProxy"],
    "coremltools.models._compiled_model": ["_MLModelProxy"],
}

_lock = threading.Lock()
# Modules, names and values as they were. Empty: not enabled.
_closed: list[tuple[ModuleType, str, object]] = []


def enable(*, threads: int | None = None, strict_fp16: bool = False) -> None:
    """Lets coremltools predict, compile and describe models through this package.

    It may be called before or after `import coremltools`, and again, which only changes the options. Models
    that coremltools loaded before can't predict; load them again.

    Args:
        threads: How many threads a model computes with; all of the machine's if None.
        strict_fp16: Whether float16 operations round each result, as their declaration says.

    Raises:
        ImportError: coremltools is not installed.
        UnsupportedError: This version of coremltools is not known.
    """
    with _lock:
        Engine.threads, Engine.strict_fp16 = threads, strict_fp16
        if _closed:
            return
        package = _coremltools()
        _check(package)
        from . import binding

        native = vars(package).get("libcoremlpython")
        for module, name, value in list(_gates(binding)):
            # In modules that were imported just now, the binding is there already: there was none before.
            before = vars(module)[name]
            _closed.append((module, name, None if before is value else before))
            setattr(module, name, value)
        _closed.append((package, "libcoremlpython", None if native is binding else native))
        package.libcoremlpython = binding  # type: ignore[attr-defined]
        sys.modules[NATIVE] = binding


def disable() -> None:
    """Takes back what `enable` changed. Models that coremltools has loaded go on predicting."""
    with _lock:
        while _closed:
            module, name, value = _closed.pop()
            setattr(module, name, value)
            if name == "libcoremlpython":
                _remove_native(module, value)


def _remove_native(package: ModuleType, native: object) -> None:
    """Leaves the native module as it was: Apple's, or none."""
    if isinstance(native, ModuleType):
        sys.modules[NATIVE] = native
    else:
        sys.modules.pop(NATIVE, None)
        delattr(package, "libcoremlpython")


def _coremltools() -> ModuleType:
    """Imports coremltools, away from macOS with this package's binding in the place of Apple's: what it
    derives from Apple's classes is only made while it is imported."""
    if "coremltools" not in sys.modules and sys.platform != "darwin":
        from . import binding

        sys.modules[NATIVE] = binding
    try:
        return importlib.import_module("coremltools")
    except ModuleNotFoundError as error:
        sys.modules.pop(NATIVE, None)
        if error.name != "coremltools":
            raise
        message = "coremltools is not installed: pip install 'candle-coreml[coremltools]'"
        raise ImportError(message, name="coremltools") from error


def _check(package: ModuleType) -> None:
    """Refuses versions of coremltools that have not what is to be changed."""
    for module, names in NEEDED.items():
        held = vars(sys.modules[module]) if module in sys.modules else {}
        for name in names:
            if name not in held:
                sys.modules.pop(NATIVE, None)
                version = getattr(package, "__version__", "of an unknown version")
                message = (
                    f"coremltools {version} is not known to candle_coreml.coremltools.enable(): it has no "
                    f"{module}.{name}. Versions 8 and 9 of coremltools are known"
                )
                raise UnsupportedError(message, kind="Unsupported")


def _gates(binding: ModuleType) -> Iterator[tuple[ModuleType, str, object]]:
    """The names that loaded modules of coremltools hold, and what they are to be."""
    values = {
        "_IS_MACOS": True,
        "_is_macos": lambda: True,
        "_macos_version": lambda: MACOS_VERSION,
        **{name: getattr(binding, name) for name in binding.__all__},
    }
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("coremltools.") and module is not binding and module is not None
    ]
    for module in modules:
        for name in values.keys() & vars(module).keys():
            yield module, name, values[name]
