"""Predictions for coremltools, wherever this package runs.

coremltools predicts through Apple's framework, which is on macOS only. After `enable()` it predicts through
this package, with no other change in its user's code: `MLModel.predict` and `make_state`, compiled models,
assets, model structures, compute plans, and what is built on them.

    import candle_coreml.coremltools
    import coremltools

    candle_coreml.coremltools.enable()
    coremltools.models.MLModel("model.mlpackage").predict({"x": x})

For the tests of a converter there is a plugin for pytest, which needs no change in the tests either:

    python -m pytest -p candle_coreml.coremltools
"""

from __future__ import annotations

from .engine import Engine, State
from .gates import disable, enable

__all__ = ["Engine", "State", "disable", "enable"]


def pytest_addoption(parser: object) -> None:
    """Opens coremltools for a run of pytest. No other hook is called before conftest files are imported,
    and they may read what is opened."""
    enable()


def pytest_unconfigure(config: object) -> None:
    """Closes coremltools again at the end of the run."""
    disable()
