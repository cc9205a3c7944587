"""What `enable` changes, and that `disable` changes it back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest

import candle_coreml
import candle_coreml.coremltools
from candle_coreml.coremltools import gates

pytest_plugins = "ct_fixtures"

X = np.ones((4, 20), np.float32)


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """Tests disable it for themselves; other files find it enabled."""
    candle_coreml.coremltools.enable()
    yield
    candle_coreml.coremltools.enable()


def python(*lines: str) -> str:
    """What a Python of its own prints."""
    command = [sys.executable, "-c", "\n".join(lines)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_disable_takes_everything_back(linear_model: Any) -> None:
    platform = sys.platform
    candle_coreml.coremltools.disable()
    assert not ct.utils._is_macos()
    assert ct.utils._macos_version() == ()
    assert not hasattr(ct, "libcoremlpython")
    for module in ("model", "compute_plan", "compute_device", "_compiled_model"):
        assert vars(sys.modules[f"coremltools.models.{module}"])["_MLModelProxy"] is None
    assert ct.models.MLModel(linear_model.get_spec(), weights_dir=linear_model.weights_dir).__proxy__ is None
    with pytest.raises(Exception, match="macOS"):
        linear_model.make_state()
    # What was loaded goes on.
    assert linear_model.predict({"x": X})["y"].shape == (4, 30)
    candle_coreml.coremltools.disable()

    candle_coreml.coremltools.enable()
    candle_coreml.coremltools.enable()
    assert ct.utils._is_macos()
    again = ct.models.MLModel(linear_model.get_spec(), weights_dir=linear_model.weights_dir)
    assert again.predict({"x": X})["y"].shape == (4, 30)
    candle_coreml.coremltools.disable()
    assert not ct.utils._is_macos()
    assert sys.platform == platform


@pytest.mark.parametrize("first", ["candle_coreml.coremltools.enable()", "import coremltools"])
def test_enable_before_and_after_coremltools_is_imported(
    linear_model: Any, tmp_path: Path, first: str
) -> None:
    linear_model.save(str(tmp_path / "linear.mlpackage"))
    printed = python(
        "import candle_coreml.coremltools, sys, numpy",
        "assert 'coremltools' not in sys.modules",
        first,
        "import coremltools",
        "candle_coreml.coremltools.enable()",
        f"model = coremltools.models.MLModel({str(tmp_path / 'linear.mlpackage')!r})",
        "print(model.predict({'x': numpy.ones((4, 20))})['y'].shape)",
        "candle_coreml.coremltools.disable()",
        "print(coremltools.models.model._MLModelProxy, coremltools.utils._is_macos())",
        "print('coremltools.libcoremlpython' in sys.modules)",
    )
    assert printed.splitlines()[-3:] == ["(4, 30)", "None False", "False"]


def test_without_coremltools() -> None:
    printed = python(
        "import sys",
        "sys.modules['coremltools'] = None",
        "import candle_coreml.coremltools",
        "try:",
        "    candle_coreml.coremltools.enable()",
        "except ImportError as error:",
        "    print(error)",
    )
    assert printed == "coremltools is not installed: pip install 'candle-coreml[coremltools]'\n"


def test_a_version_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    candle_coreml.coremltools.disable()
    with monkeypatch.context() as patch:
        patch.delattr(ct.models.utils, "_is_macos")
        patch.setattr(ct, "__version__", "99.0")
        with pytest.raises(
            candle_coreml.UnsupportedError, match=r"99\.0.*coremltools\.models\.utils\._is_macos"
        ):
            candle_coreml.coremltools.enable()
        assert not ct._deps._IS_MACOS
        assert gates.NATIVE not in sys.modules


def test_options_are_the_engines(linear_model: Any) -> None:
    """Sums of halves show whether each is rounded: 2048 + 1 is 2048 then."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec(shape=(1,), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        large = mb.add(x=x, y=np.float16(2048))
        return mb.sub(x=mb.add(x=large, y=np.float16(1)), y=np.float16(2048), name="y")

    candle_coreml.coremltools.enable(threads=1, strict_fp16=True)
    model = ct.convert(
        program, minimum_deployment_target=ct.target.iOS17, pass_pipeline=ct.PassPipeline.EMPTY
    )
    assert model.predict({"x": np.array([1], np.float32)})["y"].tolist() == [0]


def test_the_plugin_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from coremltools._deps import _IS_MACOS\nassert _IS_MACOS\n")
    (tmp_path / "test_converter.py").write_text(
        "import coremltools as ct, numpy as np, pytest, torch\n"
        "@pytest.mark.skipif(not ct.utils._is_macos(), reason='predicts')\n"
        "def test_converter():\n"
        "    traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(3))\n"
        "    model = ct.convert(traced, inputs=[ct.TensorType('x', (3,))])\n"
        "    (y,) = model.predict({'x': np.array([-1.0, 0.0, 2.0])}).values()\n"
        "    assert y.tolist() == [0, 0, 2]\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    with_it = subprocess.run([*command, "-p", "candle_coreml.coremltools"], capture_output=True, text=True)
    assert "1 passed" in with_it.stdout, with_it.stdout + with_it.stderr
    without = subprocess.run(command, capture_output=True, text=True)
    assert "assert _IS_MACOS" in without.stderr
