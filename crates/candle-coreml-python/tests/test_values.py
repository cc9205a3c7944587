"""Values of every kind on their way into a model."""

from __future__ import annotations

import array
from typing import Any

import candle_coreml as cm
import numpy as np
import pytest
from conftest import BIAS, WEIGHT

X = np.array([[1, -2, 3], [0.5, 0.25, -4]], np.float32)


def laid_out() -> dict[str, np.ndarray[Any, Any]]:
    """`X` in all sorts of memory."""
    wide = np.zeros((4, 9), np.float32)
    wide[::2, ::3] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    bytes_between = np.zeros(1 + X.nbytes, np.uint8)
    unaligned = bytes_between[1:].view(np.float32).reshape(2, 3)
    unaligned[:] = X
    record = np.zeros((2, 3), [("before", "u1"), ("value", "f4")])
    record["value"] = X
    return {
        "plain": X,
        "fortran": np.asfortranarray(X),
        "transposed": X.T.copy().T,
        "strided": wide[::2, ::3],
        "negative": X[::-1, ::-1].copy()[::-1, ::-1],
        "read_only": read_only,
        "big_endian": X.astype(">f4"),
        "big_endian_double": X.astype(">f8"),
        "big_endian_strided_half": np.asfortranarray(X.astype(">f2")),
        "unaligned": unaligned,
        "record": record["value"],
        "double": X.astype(np.float64),
        "half": X.astype(np.float16),
        "subclass": np.ma.masked_array(X),
    }


@pytest.mark.parametrize("name", laid_out())
def test_memory_of_all_sorts(linear: str, name: str) -> None:
    value = laid_out()[name]
    before = value.copy()
    y = cm.MLModel(linear).predict({"x": value})["y"]
    np.testing.assert_allclose(y, X @ WEIGHT + BIAS, rtol=1e-6)
    np.testing.assert_array_equal(value, before)


def test_a_mapped_file(linear: str, tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_allclose(cm.MLModel(linear).predict({"x": mapped})["y"], X @ WEIGHT + BIAS, rtol=1e-6)


def test_lists_and_tuples(linear: str, integers: str) -> None:
    y = X @ WEIGHT + BIAS
    model = cm.MLModel(linear)
    np.testing.assert_allclose(model.predict({"x": X.tolist()})["y"], y, rtol=1e-6)
    np.testing.assert_allclose(model.predict({"x": [tuple(row) for row in X]})["y"], y, rtol=1e-6)
    whole = [[1, 2, 3], [4, 5, 6]]
    expected = np.array(whole, np.float32) @ WEIGHT + BIAS
    np.testing.assert_allclose(model.predict({"x": whole})["y"], expected, rtol=1e-6)
    np.testing.assert_array_equal(cm.MLModel(integers).predict({"x": [1, 2, 3, 4]})["y"], [3, 5, 7, 9])
    for wrong in [[[1, 2], [3]], [["a"]], [None]]:
        with pytest.raises(cm.InputError, match="input `x`"):
            model.predict({"x": wrong})
    with pytest.raises(cm.DtypeError, match="integer dtype"):
        cm.MLModel(integers).predict({"x": [1.5, 2, 3, 4]})


def test_buffers_and_objects_with_arrays(linear: str, integers: str) -> None:
    class Own:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return X

    class Lent:
        def __dlpack__(self, **options: Any) -> Any:
            return X.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return X.__dlpack_device__()

    model = cm.MLModel(linear)
    for value in [Own(), Lent(), memoryview(X)]:
        np.testing.assert_allclose(model.predict({"x": value})["y"], X @ WEIGHT + BIAS, rtol=1e-6)
    numbers = array.array("i", [1, 2, 3, 4])
    np.testing.assert_array_equal(cm.MLModel(integers).predict({"x": numbers})["y"], [3, 5, 7, 9])


def test_torch_tensors(linear: str, integers: str) -> None:
    torch = pytest.importorskip("torch")
    model = cm.MLModel(linear)
    tensor = torch.from_numpy(X.copy())
    for value in [tensor, tensor.T.contiguous().T, tensor.double(), tensor.half()]:
        np.testing.assert_allclose(model.predict({"x": value})["y"], X @ WEIGHT + BIAS, rtol=1e-6)
    ids = torch.tensor([1, 2, 3, 4])
    np.testing.assert_array_equal(cm.MLModel(integers).predict({"x": ids})["y"], [3, 5, 7, 9])
    with pytest.raises(cm.InputError, match="input `x`.*requires grad") as caught:
        model.predict({"x": tensor.requires_grad_()})
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i8", "?"])
def test_integers_of_every_width(integers: str, dtype: str) -> None:
    x = np.array([0, 1, 1, 0]).astype(dtype)
    y = cm.MLModel(integers).predict({"x": x})["y"]
    np.testing.assert_array_equal(y, x.astype(np.int32) * 2 + 1)
    assert y.dtype == np.int32


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**31, "i8"), (-(2**31) - 1, "i8"), (2**63, "u8"), (2**64 - 1, "u8"), (2**31, "u4")],
)
def test_integers_that_do_not_fit_are_refused_with_their_place(integers: str, value: int, dtype: str) -> None:
    x = np.array([0, 0, value, 0], dtype)
    words = rf"input `x`: the value {value} at \[2\] does not fit into `int32`"
    with pytest.raises(cm.InputError, match=words):
        cm.MLModel(integers).predict({"x": x})


def test_floats_that_do_not_fit_are_refused_with_their_place(linear: str, halves: str) -> None:
    x = X.astype(np.float64)
    x[1, 2] = 1e300
    with pytest.raises(cm.InputError, match=r"1e300 at \[1, 2\] does not fit into `float32`"):
        cm.MLModel(linear).predict({"x": x})
    with pytest.raises(cm.InputError, match=r"70000.0 at \[0, 1\] does not fit into `float16`"):
        cm.MLModel(halves).predict({"x": np.array([[0, 70000, 0], [0, 0, 0]], np.float32)})


def test_infinities_and_nan_are_let_through(halves: str) -> None:
    x = np.array([[np.inf, -np.inf, np.nan], [0, 1, 2]], np.float64)
    np.testing.assert_array_equal(cm.MLModel(halves).predict({"x": x})["y"], (x * 3).astype(np.float16))


@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "c8", "U3", "O", "M8[s]"])
def test_floats_are_not_made_of_other_dtypes(linear: str, dtype: str) -> None:
    with pytest.raises(cm.DtypeError, match="input `x`: expected a float dtype") as caught:
        cm.MLModel(linear).predict({"x": np.zeros((2, 3), dtype)})
    assert isinstance(caught.value, (TypeError, ValueError)) and caught.value.name == "x"


def test_integers_are_not_made_of_floats(integers: str) -> None:
    with pytest.raises(cm.DtypeError, match="input `x`: expected an integer dtype.*`int32`, got `float32`"):
        cm.MLModel(integers).predict({"x": np.zeros(4, np.float32)})


def test_scalars(build) -> None:  # type: ignore[no-untyped-def]
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1,))])
    def program(x):  # type: ignore[no-untyped-def]
        return mb.mul(x=x, y=2.0, name="y")

    model = cm.MLModel(build("one", program))
    for value in [3, 3.0, np.float32(3), np.int64(3), np.array(3.0), np.array([3.0])]:
        np.testing.assert_array_equal(model.predict({"x": value})["y"], [6.0])
    with pytest.raises(cm.DtypeError):
        model.predict({"x": True})
    for wrong in ["3", {"a": 1.0}, None, object(), b"3", 1j]:
        with pytest.raises(cm.InputError, match="input `x`"):
            model.predict({"x": wrong})


def test_a_number_does_not_fill_an_array(linear: str) -> None:
    with pytest.raises(cm.InputError, match=r"input `x`: expected Float32 \[2, 3\], got a number"):
        cm.MLModel(linear).predict({"x": 3.0})


def test_huge_integers(linear: str, integers: str) -> None:
    for model, value in [(linear, 10**400), (integers, 10**400), (integers, [10**400] * 4)]:
        with pytest.raises(cm.InputError, match="input `x`"):
            cm.MLModel(model).predict({"x": value})


def test_arrays_without_elements(build) -> None:  # type: ignore[no-untyped-def]
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol

    @mb.program(input_specs=[mb.TensorSpec((get_new_symbol(), 2))])
    def program(x):  # type: ignore[no-untyped-def]
        return mb.mul(x=x, y=2.0, name="y")

    inputs = [ct.TensorType("x", (ct.RangeDim(0, 5, default=1), 2))]
    model = cm.MLModel(build("empty", program, inputs=inputs))
    for empty in [np.zeros((0, 2), np.float32), np.zeros((0, 2)), np.zeros((2, 0), np.float32).T]:
        y = model.predict({"x": empty})["y"]
        assert (y.shape, y.dtype) == ((0, 2), np.float32)


def test_names(linear: str) -> None:
    model = cm.MLModel(linear)
    with pytest.raises(cm.UnknownNameError, match="input `z`.*it has `x`") as caught:
        model.predict({"z": X})
    assert isinstance(caught.value, KeyError) and not str(caught.value).startswith(("'", '"'))
    with pytest.raises(cm.InputError, match="input `x`: it is missing"):
        model.predict({})
    for wrong in [None, 3, "x", X, ({"x": X},)]:
        with pytest.raises(cm.DtypeError, match="expected a mapping"):
            model.predict(wrong)  # type: ignore[call-overload]
    with pytest.raises(cm.DtypeError, match="name of an input"):
        model.predict({1: X})  # type: ignore[dict-item]


def test_mappings_of_other_kinds(linear: str) -> None:
    import collections
    import types

    for kind in [types.MappingProxyType, collections.ChainMap, collections.OrderedDict]:
        inputs = kind({"x": X})
        assert cm.MLModel(linear).predict(inputs)["y"].shape == (2, 4)


def test_shapes_that_do_not_fit(linear: str, ranged: str, listed: str) -> None:
    with pytest.raises(cm.InputError, match=r"expected Float32 \[2, 3\], got shape \[3, 2\]") as caught:
        cm.MLModel(linear).predict({"x": X.T.copy()})
    assert caught.value.mismatch == {"kind": "out_of_range", "dimension": 0, "size": 3, "allowed": (2, 2)}
    with pytest.raises(cm.InputError) as caught:
        cm.MLModel(ranged).predict({"x": np.zeros((99, 2), np.float32)})
    assert caught.value.mismatch == {"kind": "out_of_range", "dimension": 0, "size": 99, "allowed": (3, 5)}
    with pytest.raises(cm.InputError) as caught:
        cm.MLModel(ranged).predict({"x": np.zeros(3, np.float32)})
    assert caught.value.mismatch == {"kind": "rank", "expected": 2, "got": 1}
    with pytest.raises(cm.InputError) as caught:
        cm.MLModel(listed).predict({"x": np.zeros((2, 2), np.float32)})
    mismatch = caught.value.mismatch
    assert mismatch is not None and mismatch["kind"] == "not_enumerated" and mismatch["shape"] == (2, 2)
    assert set(mismatch["allowed"]) == {(1, 2), (4, 2)}


def test_an_array_that_changes_later_is_no_input_of_the_next_call(linear: str) -> None:
    model = cm.MLModel(linear)
    x = X.copy()
    model.predict({"x": x})
    x[:] = 0
    np.testing.assert_allclose(model.predict({"x": x})["y"], np.broadcast_to(BIAS, (2, 4)))
    with pytest.raises(cm.InputError, match="missing"):
        model.predict({})
