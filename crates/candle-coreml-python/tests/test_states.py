"""States: values between predictions."""

from __future__ import annotations

import copy
import pickle
import threading

import candle_coreml as cm
import numpy as np
import pytest
from conftest import REPOSITORY

X = np.array([1, 2, 0.5], np.float16)


def test_a_state_adds_up(counter: str) -> None:
    model = cm.MLModel(counter)
    (feature,) = model.states
    assert (feature.name, feature.type, feature.dtype, feature.shape) == ("sum", "state", "float16", (3,))
    state, other = model.make_state(), model.make_state()
    for turn in range(1, 5):
        y = model.predict({"x": X}, state)["y"]
        np.testing.assert_array_equal(y, X * turn)
    assert state.names == ("sum",)
    value = state.read_state("sum")
    assert value.dtype == np.float16
    np.testing.assert_array_equal(value, X * 4)
    np.testing.assert_array_equal(other.read_state("sum"), [0, 0, 0])
    state.reset()
    np.testing.assert_array_equal(state.read_state("sum"), [0, 0, 0])


def test_a_state_is_written(counter: str) -> None:
    model = cm.MLModel(counter)
    state = model.make_state()
    for value in [X, X.astype(np.float64), X.astype(">f4"), np.stack([X, X], 1)[:, 0], X.tolist()]:
        state.reset()
        state.write_state("sum", value)
        np.testing.assert_array_equal(model.predict({"x": X}, state=state)["y"], X * 2)
    value = state.read_state("sum")
    value[:] = 0
    np.testing.assert_array_equal(state.read_state("sum"), X * 2)


def test_what_does_not_fit_leaves_a_state_as_it_is(counter: str) -> None:
    state = cm.MLModel(counter).make_state()
    state.write_state("sum", X)
    with pytest.raises(cm.InputError, match="state `sum`"):
        state.write_state("sum", np.zeros(4, np.float16))
    with pytest.raises(cm.InputError, match=r"state `sum`: the value 1000.* at \[1\]"):
        state.write_state("sum", np.array([0, 1e10, 0]))
    with pytest.raises(cm.DtypeError, match="state `sum`"):
        state.write_state("sum", np.zeros(3, np.int32))
    with pytest.raises(cm.InputError):
        state.write_state("sum", "zero")
    for use in [lambda: state.write_state("other", X), lambda: state.read_state("other")]:
        with pytest.raises(cm.UnknownNameError, match="`other`.*`sum`"):
            use()
    np.testing.assert_array_equal(state.read_state("sum"), X)


def test_a_state_is_needed(counter: str, linear: str) -> None:
    model = cm.MLModel(counter)
    with pytest.raises(cm.InputError, match="make_state"):
        model.predict({"x": X})
    with pytest.raises(cm.Error, match="sum"):
        model.predict({"x": X}, cm.MLModel(linear).make_state())
    with pytest.raises(TypeError):
        model.predict({"x": X}, {"sum": X})  # type: ignore[call-overload]


def test_a_failed_prediction_leaves_a_state_as_it_is(counter: str) -> None:
    model = cm.MLModel(counter)
    state = model.make_state()
    model.predict({"x": X}, state)
    with pytest.raises(cm.InputError):
        model.predict({"x": np.zeros(7, np.float16)}, state)
    token = cm.CancelToken()
    token.cancel()
    with pytest.raises(cm.CancelledError):
        model.predict({"x": X}, state, cancel=token)
    np.testing.assert_array_equal(state.read_state("sum"), X)


def test_a_state_goes_to_other_models_and_outlives_its_own(counter: str) -> None:
    with cm.MLModel(counter) as model:
        state = model.make_state()
        model.predict({"x": X}, state)
    np.testing.assert_array_equal(cm.MLModel(counter).predict({"x": X}, state)["y"], X * 2)


def test_copies_and_pickles_are_states_of_their_own(counter: str) -> None:
    model = cm.MLModel(counter)
    state = model.make_state()
    model.predict({"x": X}, state)
    others = [copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))]
    for other in others:
        np.testing.assert_array_equal(model.predict({"x": X}, other)["y"], X * 2)
    np.testing.assert_array_equal(state.read_state("sum"), X)


def test_a_state_in_use_says_so(endless: str, counter: str, build) -> None:  # type: ignore[no-untyped-def]
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((1,), types.fp16), mb.StateTensorSpec((1,), types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x, sum):  # type: ignore[no-untyped-def]
        def condition(i, _x):  # type: ignore[no-untyped-def]
            return mb.less(x=i, y=np.int32(2**31 - 1))

        def body(i, x):  # type: ignore[no-untyped-def]
            return mb.add(x=i, y=np.int32(1)), mb.add(x=x, y=np.float16(1))

        total = mb.add(x=mb.read_state(input=sum), y=x)
        total = mb.coreml_update_state(state=sum, value=total)
        _, y = mb.while_loop(_cond=condition, _body=body, loop_vars=(np.int32(0), total))
        return mb.identity(x=y, name="y")

    model = cm.MLModel(build("endless_state", program, compute_precision=ct.precision.FLOAT16))
    state, token, errors = model.make_state(), cm.CancelToken(), list[Exception]()
    x = np.ones(1, np.float16)

    def predict() -> None:
        try:
            model.predict({"x": x}, state, cancel=token)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=predict)
    thread.start()
    for _ in range(10_000):
        if repr(state) == "<MLState in use>":
            break
        threading.Event().wait(0.001)
    for use in [lambda: state.read_state("sum"), lambda: model.predict({"x": x}, state), state.reset]:
        with pytest.raises(cm.PredictionError, match="in use by another prediction"):
            use()
    token.cancel()
    thread.join(30)
    assert not thread.is_alive() and isinstance(errors[0], cm.CancelledError)
    np.testing.assert_array_equal(state.read_state("sum"), [0])


def test_the_repositorys_stateful_model() -> None:
    for path in ["stateful.mlpackage", "stateful.mlmodelc"]:
        model = cm.MLModel(REPOSITORY / "crates/coreml-format/tests/fixtures" / path)
        assert model.states and model.make_state().names == tuple(state.name for state in model.states)
