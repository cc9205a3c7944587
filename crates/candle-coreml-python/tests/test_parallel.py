"""Threads, processes, pickles and event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import multiprocessing
import os
import pickle
import threading

import candle_coreml as cm
import numpy as np
import pytest

X = np.array([[1, -2, 3], [0.5, 0.25, -4]], np.float32)


@pytest.fixture(scope="module")
def large(build) -> str:  # type: ignore[no-untyped-def]
    """`y = x @ weight`: large enough for the threads of a pool."""
    from coremltools.converters.mil import Builder as mb

    weight = large_weight()

    @mb.program(input_specs=[mb.TensorSpec((64, 1024))])
    def program(x):  # type: ignore[no-untyped-def]
        return mb.matmul(x=x, y=weight, name="y")

    return str(build("large", program))


def large_weight() -> np.ndarray:  # type: ignore[type-arg]
    return (np.arange(1024 * 2048, dtype=np.float32).reshape(1024, 2048) % 97 - 48) / 97


def large_input(number: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return (np.arange(64 * 1024, dtype=np.float32).reshape(64, 1024) + number) % 31 - 15


def check_large(model: cm.MLModel, number: int = 0) -> None:
    x = large_input(number)
    expected = x.astype(np.float64) @ large_weight().astype(np.float64)
    np.testing.assert_allclose(model.predict({"x": x})["y"], expected, rtol=1e-3, atol=1e-2)


def test_threads_share_a_model(large: str, ranged: str) -> None:
    for path, check in [(large, check_large)]:
        model = cm.MLModel(path)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: check(model, number), range(12)))
    model = cm.MLModel(ranged)

    def predict(number: int) -> None:
        x = np.full((3 + number % 3, 2), number, np.float32)
        np.testing.assert_array_equal(model.predict({"x": x})["y"], x * 2)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(predict, range(400)))


def test_other_threads_run_while_a_model_computes(endless: str) -> None:
    model, token = cm.MLModel(endless), cm.CancelToken()
    outcome = list[Exception]()

    def predict() -> None:
        try:
            model.predict({"x": np.zeros(1, np.float32)}, cancel=token)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=predict)
    thread.start()
    assert sum(range(10**6)) == 499_999_500_000 and thread.is_alive()
    token.cancel()
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(outcome[0], cm.CancelledError) and outcome[0].kind == "Cancelled"


def test_a_list_runs_on_large_models(large: str) -> None:
    model = cm.MLModel(large)
    inputs = [{"x": large_input(number)} for number in range(5)]
    for number, output in enumerate(model.predict(inputs)):
        expected = large_input(number).astype(np.float64) @ large_weight()
        np.testing.assert_allclose(output["y"], expected, rtol=1e-3, atol=1e-2)


def in_child(path: str) -> None:
    """What a child process does with models of its own."""
    check_large(cm.MLModel(path))
    check_large(cm.MLModel(path, threads=2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_forked_child_predicts_with_its_parents_model(large: str, threads: int | None) -> None:
    model = cm.MLModel(large, threads=threads)
    check_large(model)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            check_large(model, 1)
            in_child(large)
            os.write(write, b"well")
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        with os.fdopen(read, "rb") as pipe:
            watch = threading.Timer(60, lambda: os.kill(child, 9))
            watch.start()
            answer = pipe.read()
            watch.cancel()
    finally:
        os.waitpid(child, 0)
    assert answer == b"well"
    check_large(model, 2)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes(large: str, method: str) -> None:
    check_large(cm.MLModel(large))
    context = multiprocessing.get_context(method)
    process = context.Process(target=in_child, args=(large,))
    process.start()
    process.join(120)
    code = process.exitcode
    process.kill()
    assert code == 0


def test_a_pool_of_processes_takes_the_model_itself(linear: str) -> None:
    model = cm.MLModel(linear)
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(predict_with, [model] * 3))
    for y in found:
        np.testing.assert_array_equal(y, model.predict({"x": X})["y"])


def predict_with(model: cm.MLModel) -> object:
    return model.predict({"x": X})["y"]


def test_models_are_pickled_by_path_and_options(linear: str) -> None:
    model = cm.MLModel(linear, threads=2, strict_fp16=True, numerics="strict")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(model, protocol))
        assert (again.path, again.function_name) == (linear, "main")
        assert again.__getnewargs_ex__() == model.__getnewargs_ex__()
        np.testing.assert_array_equal(again.predict({"x": X})["y"], model.predict({"x": X})["y"])
    assert len(pickle.dumps(model)) < 1000 + len(linear)
    options = {"function_name": "main", "threads": 2, "strict_fp16": True, "numerics": "strict"}
    assert model.__getnewargs_ex__()[1] == options


def test_copies_are_models_of_their_own(linear: str) -> None:
    model = cm.MLModel(linear)
    for other in [copy.copy(model), copy.deepcopy(model)]:
        other.close()
        assert not model.closed
    np.testing.assert_array_equal(copy.copy(model).predict({"x": X})["y"], model.predict({"x": X})["y"])


def test_predictions_in_an_event_loop(linear: str, counter: str) -> None:
    model = cm.MLModel(linear)

    async def many() -> list[object]:
        return list(await asyncio.gather(*[model.predict_async({"x": X * number}) for number in range(8)]))

    for number, outputs in enumerate(asyncio.run(many())):
        assert isinstance(outputs, dict)
        np.testing.assert_array_equal(outputs["y"], model.predict({"x": X * number})["y"])

    stateful = cm.MLModel(counter)
    state = stateful.make_state()

    async def twice() -> None:
        for _ in range(2):
            await stateful.predict_async({"x": [1, 2, 3]}, state)

    asyncio.run(twice())
    np.testing.assert_array_equal(state.read_state("sum"), [2, 4, 6])


def test_a_task_that_is_cancelled_ends_its_prediction(endless: str) -> None:
    model = cm.MLModel(endless)

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.predict_async({"x": [0.0]}), 0.2)
        with pytest.raises(cm.InputError):
            await model.predict_async({"x": [0.0, 1.0]})

    asyncio.run(run())  # returns only when no thread of the loop's computes any longer


def test_a_token_ends_lists_and_later_calls(endless: str, linear: str) -> None:
    token = cm.CancelToken()
    assert not token.cancelled and "False" in repr(token)
    timer = threading.Timer(0.3, token.cancel)
    timer.start()
    with pytest.raises(cm.CancelledError):
        cm.MLModel(endless).predict([{"x": [0.0]}] * 3, cancel=token)
    assert token.cancelled
    with pytest.raises(cm.CancelledError):
        cm.MLModel(linear).predict({"x": X}, cancel=token)
    cm.MLModel(linear).predict({"x": X}, cancel=cm.CancelToken())


def test_one_error_ends_all_of_a_list(endless: str) -> None:
    good, bad = {"x": [0.0]}, {"x": [0.0, 1.0]}
    with pytest.raises(cm.InputError, match=r"inputs\[3\]"):
        cm.MLModel(endless, threads=4).predict([good, good, good, bad])


