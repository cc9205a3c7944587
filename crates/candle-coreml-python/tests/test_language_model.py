"""Text generation, against the float32 PyTorch models whose weights the packages hold (`expected.json`)."""

from __future__ import annotations

import _thread
import asyncio
import json
import pickle
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import candle_coreml as cm
import numpy as np
import numpy.typing as npt
import pytest
from conftest import REPOSITORY

DEMO = REPOSITORY / "crates" / "candle-coreml-cli" / "demo"
FIXTURES = REPOSITORY / "fixtures" / "llm"


def expected(directory: Path) -> list[dict[str, Any]]:
    prompts: list[dict[str, Any]] = json.loads((directory / "expected.json").read_text())["prompts"]
    return prompts


@pytest.fixture(scope="module")
def model() -> cm.LanguageModel:
    return cm.LanguageModel(DEMO)


@pytest.mark.parametrize(
    "name", ["demo", "apple-llama", "gemma3", "qwen3-monolithic-argmax", "qwen35-2chunks"]
)
def test_tokens_are_those_of_pytorch(name: str) -> None:
    directory = DEMO if name == "demo" else FIXTURES / name
    model = cm.LanguageModel(str(directory))
    checked = 0
    for prompt in expected(directory):
        robust = prompt["robust_prefix_len"]
        assert model.tokenize(prompt["prompt"]) == prompt["prompt_ids"]
        options: cm.GenerationOptions = {"max_tokens": len(prompt["next_ids"]), "ignore_eos": True}
        generation = model.session().generate(prompt["prompt"], **options)
        assert generation.token_ids[:robust] == prompt["next_ids"][:robust]
        assert generation.prompt_ids == prompt["prompt_ids"]
        # The same in one conversation, token by token, and from ids.
        tokens = list(model.stream(prompt["prompt_ids"], **options))
        assert [token.id for token in tokens][:robust] == prompt["next_ids"][:robust]
        checked += robust
    assert checked > 50


def test_the_text_is_that_of_the_tokens(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    assert prompt["robust_prefix_len"] == len(prompt["next_ids"])
    count = len(prompt["next_ids"])
    generation = model.session().generate(prompt["prompt"], max_tokens=count, ignore_eos=True)
    assert generation.text == prompt["text"] == str(generation)
    assert generation.finish_reason == "length"
    assert generation.usage.generated_tokens == len(prompt["next_ids"])
    assert generation.usage.prefilled_tokens == generation.usage.prompt_tokens == len(prompt["prompt_ids"])
    assert generation.timings.decode_seconds > 0
    assert generation.message == {"role": "assistant", "content": prompt["text"]}
    assert model.detokenize(prompt["next_ids"]) == prompt["text"]


def test_logits_and_log_probabilities_are_those_of_pytorch(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    reference = np.array(prompt["first_logits"], np.float64)
    logits = model.session().logits(prompt["prompt"])
    assert logits.dtype == np.float32 and logits.shape == (model.vocabulary_size,)
    np.testing.assert_allclose(logits, reference, atol=0.1)
    probabilities = reference - np.log(np.exp(reference - reference.max()).sum()) - reference.max()
    token = next(model.session().stream(prompt["prompt"], logprobs=3))
    assert token.logprobs is not None
    best = np.argsort(-reference)[:3]
    assert token.id == token.logprobs.chosen.id == best[0]
    assert [top.id for top in token.logprobs.top] == list(best)
    for top in token.logprobs.top:
        assert abs(top.logprob - probabilities[top.id]) < 0.1
        assert top.bytes.decode() == top.text


def test_a_chooser_takes_the_place_of_the_sampler(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    seen: list[int] = []

    def second_best(logits: npt.NDArray[np.float32], ids: Sequence[int], generated: Sequence[int]) -> int:
        assert logits.shape == (model.vocabulary_size,) and list(ids) == prompt["prompt_ids"]
        seen.append(len(generated))
        return int(np.argsort(-logits)[1 if len(generated) == 0 else 0])

    session = model.session()
    generation = session.generate(prompt["prompt"], chooser=second_best, max_tokens=4, ignore_eos=True)
    assert generation.token_ids[0] == np.argsort(-np.array(prompt["first_logits"]))[1]
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        session.generate(prompt["prompt"], chooser=lambda *_: 1 // 0)
    with pytest.raises(cm.InputError, match="string"):
        session.generate(prompt["prompt_ids"], chooser=second_best)
    # The session goes on.
    assert session.generate(prompt["prompt"], max_tokens=1).token_ids == prompt["next_ids"][:1]


def test_options_do_what_they_say(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    first, text = prompt["next_ids"][0], prompt["prompt"]

    def generate(**options: Any) -> cm.Generation:
        return model.session().generate(text, **options)

    assert generate(max_tokens=1, logit_bias={first: float("-inf")}).token_ids[0] != first
    forced = generate(max_tokens=1, logit_bias={7: 1000.0}).token_ids
    assert forced == [7]
    assert generate(max_tokens=2, sequence_bias={(first, 9): 1000.0}).token_ids == [first, 9]
    stopped = generate(stop=" meadow")
    assert stopped.text == prompt["text"].split(" meadow")[0]
    assert (stopped.finish_reason, stopped.stop_string) == ("stop", " meadow")
    assert generate(stop=["nowhere", "."]).text == prompt["text"].split(".")[0]
    assert generate(stop_ids=[prompt["next_ids"][2]]).token_ids == prompt["next_ids"][:3]
    assert generate(max_length=len(prompt["prompt_ids"]) + 2).token_ids == prompt["next_ids"][:2]
    assert generate(temperature=None, max_tokens=3, top_k=None).token_ids == prompt["next_ids"][:3]
    assert generate(temperature=5.0, top_k=1, max_tokens=3).token_ids == prompt["next_ids"][:3]
    some = {tuple(generate(temperature=2.0, seed=seed, max_tokens=8).token_ids) for seed in range(6)}
    assert len(some) > 1
    again = [generate(temperature=2.0, seed=3, max_tokens=8).token_ids for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"temperature": -1.0}, cm.InputError, "temperature"),
        ({"temperature": "hot"}, cm.DtypeError, "`temperature`.*'hot'"),
        ({"max_tokens": -1}, cm.InputError, "`max_tokens`"),
        ({"overflow": "burst"}, cm.InputError, "shift"),
        ({"stop": [1]}, cm.DtypeError, "`stop`"),
        ({"cancel": 1}, cm.DtypeError, "`cancel`"),
        ({"temprature": 1.0}, TypeError, "`temprature`; there are: .*temperature"),
        ({"logit_bias": {10**6: 1.0}}, cm.InputError, "1000000"),
    ],
)
def test_wrong_options_are_named(
    model: cm.LanguageModel, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    session = model.session()
    with pytest.raises(error, match=words):
        session.generate("Once", **options)
    assert session.generate("Once", max_tokens=1).usage.generated_tokens == 1


def test_prompts_that_can_not_be_are_refused(model: cm.LanguageModel) -> None:
    with pytest.raises(cm.DtypeError, match="string"):
        model.generate(1.5)  # type: ignore[arg-type]
    with pytest.raises(cm.InputError, match="no tokens"):
        model.generate([])
    with pytest.raises(cm.InputError, match="token 999999"):
        model.generate([999999])
    with pytest.raises(cm.Error, match="context"):
        model.generate([5] * (model.context_length + 1))


def test_a_conversation_runs_only_what_is_new(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    session = model.session()
    first = session.generate(prompt["prompt"], max_tokens=8)
    assert session.cached_ids == (first.prompt_ids + first.token_ids)[:-1]
    longer = session.generate(first.prompt_ids + first.token_ids, max_tokens=4, ignore_eos=True)
    assert longer.usage.reused_tokens == len(first.prompt_ids) + 7
    assert longer.token_ids == prompt["next_ids"][8:12]
    session.reset()
    assert session.cached_ids == []


def test_streams_hold_their_session_until_their_end(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    session = model.session()
    stream = session.stream(prompt["prompt"], ignore_eos=True)
    assert next(stream).id == prompt["next_ids"][0]
    assert stream.generation is None
    with pytest.raises(cm.PredictionError, match="already"):
        session.generate("Once")
    # Others do not mind.
    assert model.session().generate("Once", max_tokens=1).token_ids
    stream.close()
    assert stream.generation is not None
    got = stream.generation.token_ids
    assert 1 <= len(got) < 32 and got == prompt["next_ids"][: len(got)]
    assert list(stream) == []
    # A stream that is let go of ends, too.
    next(session.stream(prompt["prompt"], ignore_eos=True, max_tokens=10_000))
    assert session.generate(prompt["prompt"], max_tokens=2).token_ids == prompt["next_ids"][:2]
    with session.stream(prompt["prompt"]) as stream:
        next(stream)
    assert session.generate(prompt["prompt"], max_tokens=2).token_ids == prompt["next_ids"][:2]


def test_asynchronous_streams_give_the_same(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]

    async def read() -> tuple[list[int], int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        stream = model.session().stream(prompt["prompt"], max_tokens=32, ignore_eos=True)
        ids = [token.id async for token in stream]
        task.cancel()
        return ids, turns

    ids, turns = asyncio.run(read())
    assert ids == prompt["next_ids"] and turns > len(ids)


def test_a_token_ends_it_from_another_thread(model: cm.LanguageModel) -> None:
    token = cm.CancelToken()
    session = model.session()
    stream = session.stream("Once", ignore_eos=True, max_tokens=10_000, overflow="shift", cancel=token)
    next(stream)
    threading.Thread(target=token.cancel).start()
    for _ in stream:
        pass
    assert stream.generation is not None and stream.generation.finish_reason == "cancelled"
    assert session.generate("Once", cancel=token).token_ids == []


@pytest.mark.parametrize("asked", [None, cm.CancelToken()])
def test_an_interrupt_ends_it_and_the_session_goes_on(
    model: cm.LanguageModel, asked: cm.CancelToken | None
) -> None:
    prompt = expected(DEMO)[0]
    session = model.session()
    timer = threading.Timer(0.2, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.generate("Once", ignore_eos=True, max_tokens=10**9, overflow="shift", cancel=asked)
    timer.join()
    assert session.generate(prompt["prompt"], max_tokens=2).token_ids == prompt["next_ids"][:2]


def test_sessions_run_on_several_threads(model: cm.LanguageModel) -> None:
    prompts = [prompt for prompt in expected(DEMO) if prompt["robust_prefix_len"] == len(prompt["next_ids"])]
    results: dict[int, list[int]] = {}

    def run(index: int) -> None:
        prompt = prompts[index]
        generation = model.session().generate(prompt["prompt"], max_tokens=32, ignore_eos=True)
        results[index] = generation.token_ids

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: prompt["next_ids"] for index, prompt in enumerate(prompts)}


def test_chats_go_through_the_template(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(DEMO, directory)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    template += "{% if enable_thinking %}!{% endif %}{{ tail }}"
    (directory / "chat_template.jinja").write_text(template)
    model = cm.LanguageModel(directory)
    prompt = expected(DEMO)[0]
    half = len(prompt["prompt"]) // 2
    messages = [
        {"role": "system", "content": prompt["prompt"][:half]},
        {"role": "user", "content": prompt["prompt"][half:]},
    ]
    options: cm.GenerationOptions = {"max_tokens": 8, "ignore_eos": True}
    assert model.chat(messages, **options).token_ids == prompt["next_ids"][:8]
    ids = [token.id for token in model.chat_stream(messages, **options)]
    assert ids == prompt["next_ids"][:8]

    def asked(**more: Any) -> list[int]:
        return model.chat(messages, max_tokens=1, **more).prompt_ids

    assert asked(thinking=True) == model.tokenize(prompt["prompt"] + "!")[: len(asked(thinking=True))]
    assert asked(thinking=False) == asked() == prompt["prompt_ids"]
    assert asked(variables={"tail": " So"}) == model.tokenize(prompt["prompt"] + " So")
    for wrong in ["hello", [{"content": "x"}], [{"role": "user", "content": 1}], [object()]]:
        with pytest.raises(cm.InputError, match="role"):
            model.chat(wrong)  # type: ignore[arg-type]


def test_models_without_a_template_do_not_chat(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(DEMO, directory)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(cm.Error, match="chat_template"):
        cm.LanguageModel(directory).chat([{"role": "user", "content": "hello"}])


def test_what_the_model_is(model: cm.LanguageModel) -> None:
    assert model.vocabulary_size == len(expected(DEMO)[0]["first_logits"])
    generation_config = json.loads((DEMO / "generation_config.json").read_text())
    assert set(model.end_tokens) == set(generation_config["eos_token_id"])
    assert model.context_length == model.config["shapes"]["context_length"]
    assert isinstance(model, cm.Session)
    assert model.path == str(DEMO) and model.path in repr(model)
    assert model.findings == [] or all(isinstance(finding, str) for finding in model.findings)
    assert isinstance(model.recommended, dict)


def test_models_are_pickled_by_their_path(model: cm.LanguageModel) -> None:
    prompt = expected(DEMO)[0]
    again = pickle.loads(pickle.dumps(cm.LanguageModel(DEMO, threads=1)))
    assert again.path == model.path
    assert again.generate(prompt["prompt"], max_tokens=4).token_ids == prompt["next_ids"][:4]
    with pytest.raises(TypeError):
        pickle.dumps(model.session())


def test_closed_models_say_so() -> None:
    with cm.LanguageModel(DEMO) as model:
        session = model.session()
    assert model.closed
    for use in [
        lambda: model.generate("x"),
        lambda: model.tokenize("x"),
        lambda: model.context_length,
        model.session,
    ]:
        with pytest.raises(cm.ClosedError, match="closed"):
            use()
    # Other conversations go on.
    assert session.generate("Once", max_tokens=1).token_ids
    session.close()
    with pytest.raises(cm.ClosedError):
        session.reset()


def test_models_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        cm.LanguageModel(tmp_path / "nowhere")
    with pytest.raises(cm.Error, match=str(tmp_path)):
        cm.LanguageModel(tmp_path)
    with pytest.raises(cm.DownloadError, match="org/none"):
        cm.LanguageModel("org/none", offline=True)
    with pytest.raises(cm.InputError, match="threads"):
        cm.LanguageModel(DEMO, threads=0)
