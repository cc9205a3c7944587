//! The pipeline on a [fake](super::fake) model.

use std::collections::HashMap;
use std::sync::Arc;

use coreml_format::description::{FeatureType, ModelDescription, ShapeFlexibility};

use super::fake::{Calls, Component, Fake, Layout, half, integer, reference};
use super::{ChunkStages, Pipeline, Stage};
use crate::backend::Executable;
use crate::config::{self, Discovery, Manifest};
use crate::error::Result;
use crate::llm::text::testing::{byte_tokenizer, write_byte_tokenizer};
use crate::llm::{FinishReason, GenerationOptions, LanguageModel, TextTokenizer};
use crate::model::CoreMLModel;

/// A model whose tokens are bytes, mostly ASCII only.
#[derive(Debug)]
struct Setup {
    model: LanguageModel,
    calls: Calls,
}

fn tokenizer() -> TextTokenizer {
    let directory = tempfile::tempdir().unwrap();
    byte_tokenizer(directory.path())
}

/// Puts fakes together as packages of a directory are.
fn assemble(fakes: Vec<Fake>, manifest: Option<Manifest>) -> Result<LanguageModel> {
    let named: Vec<(String, Fake)> = fakes.into_iter().map(|fake| (fake.stem(), fake)).collect();
    let descriptions: Vec<_> =
        named.iter().map(|(stem, fake)| (stem.as_str(), fake.description())).collect();
    let discovery = Discovery::of_descriptions(&descriptions, manifest)?;
    let layout = super::Layout::new(&discovery)?;
    let models: HashMap<String, Arc<Fake>> =
        named.into_iter().map(|(stem, fake)| (stem, Arc::new(fake))).collect();
    let stage = |found: &config::Component| {
        let fake = models[found.path.to_str().unwrap()].clone();
        let model = CoreMLModel::from_executable(fake, Some(&found.function.name)).unwrap();
        Stage::new(found, model).unwrap()
    };
    let components = &discovery.components;
    let chunk = |chunk: &config::Chunk| ChunkStages {
        infer: stage(&chunk.infer),
        prefill: chunk.prefill.as_ref().map(stage),
        infer_rotate: chunk.infer_rotate.as_ref().map(stage),
    };
    let config = config::describe(&discovery, &layout);
    let pipeline = Pipeline {
        layout,
        embeddings: components.embeddings.as_ref().map(stage),
        chunks: components.chunks.iter().map(chunk).collect(),
        lm_head: components.lm_head.as_ref().map(stage),
    };
    Ok(LanguageModel::assemble(pipeline, config, tokenizer()))
}

fn try_setup(layout: Layout, fail_at: Option<usize>, manifest: Option<Manifest>) -> Result<Setup> {
    let calls = Calls::default();
    let mut components = vec![Component::Embeddings, Component::LmHead];
    components.extend((0..layout.chunks).map(Component::Chunk));
    let fakes = components.into_iter().map(|component| {
        let mut fake = Fake::new(layout, component, calls.clone());
        fake.fail_at = fail_at;
        fake
    });
    let model = assemble(fakes.collect(), manifest)?;
    Ok(Setup { model, calls })
}

fn setup(layout: Layout) -> Setup {
    try_setup(layout, None, None).unwrap()
}

/// The most likely tokens, whatever they are.
fn greedy(max_tokens: usize) -> GenerationOptions {
    GenerationOptions::new().max_tokens(max_tokens).ignore_eos(true)
}

fn prompt(length: usize) -> String {
    (0..length).map(|i| char::from(b'a' + (i * i % 26) as u8)).collect()
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn expected(prompt: &str, count: usize, layout: &Layout) -> Vec<u32> {
    let mut ids = bytes(prompt);
    for _ in 0..count {
        ids.push(reference(&ids, layout.chunks, layout.vocabulary));
    }
    ids.split_off(prompt.len())
}

#[test]
fn prompts_of_every_length_give_the_right_tokens() {
    let layouts = [
        Layout::default(),
        Layout { chunks: 1, parts: 1, ..Layout::default() },
        Layout { chunks: 3, spare_rows: 32, ..Layout::default() },
        Layout { window: 1, ..Layout::default() },
        Layout { window: 64, ..Layout::default() },
        Layout { state_per_chunk: true, chunks: 3, ..Layout::default() },
        Layout { update_mask: true, ..Layout::default() },
    ];
    for layout in layouts {
        let manifest = Manifest { per_chunk_state: layout.state_per_chunk, ..Manifest::default() };
        let mut setup = try_setup(layout, None, Some(manifest)).unwrap();
        for length in [1, 2, 7, 8, 9, 10, 16, 17, 29, 57, 58, 62, 63] {
            setup.model.reset_states();
            let prompt = prompt(length);
            let count = (layout.context - length).min(12);
            let generation = setup.model.generate(&prompt, &greedy(count)).unwrap();
            assert_eq!(generation.token_ids, expected(&prompt, count, &layout), "{length}");
            assert_eq!(generation.prompt_ids, bytes(&prompt));
            assert_eq!(generation.usage.prefilled_tokens, length);
            assert_eq!(generation.usage.generated_tokens, count);
        }
    }
}

#[test]
fn all_but_the_last_prompt_token_run_in_windows() {
    let layout = Layout { chunks: 1, ..Layout::default() };
    let cases: [(usize, &[(&str, usize)]); 6] = [
        (1, &[("infer", 0)]),
        (2, &[("infer", 0), ("infer", 1)]),
        (9, &[("prefill", 0), ("infer", 8)]),
        (10, &[("prefill", 0), ("infer", 8), ("infer", 9)]),
        (12, &[("prefill", 0), ("prefill", 8), ("infer", 11)]),
        (20, &[("prefill", 0), ("prefill", 8), ("prefill", 16), ("infer", 19)]),
    ];
    for (length, calls) in cases {
        let mut setup = setup(layout);
        setup.model.generate(&prompt(length), &greedy(1)).unwrap();
        let seen = setup.calls.lock().unwrap();
        let seen: Vec<_> = seen.iter().map(|(name, start, _)| (name.as_str(), *start)).collect();
        assert_eq!(seen, calls, "{length}");
    }
}

#[test]
fn a_window_never_reaches_past_the_context() {
    // Windows of 8 leave 4 positions of 60: those run one by one.
    let layout = Layout { context: 60, chunks: 1, ..Layout::default() };
    let mut setup = setup(layout);
    let prompt = prompt(59);
    let generation = setup.model.generate(&prompt, &greedy(9)).unwrap();
    assert_eq!(generation.token_ids, expected(&prompt, 1, &layout));
    let calls = setup.calls.lock().unwrap();
    let singles = calls.iter().filter(|call| call.0 == "infer").map(|call| call.1);
    assert_eq!(singles.collect::<Vec<_>>(), [56, 57, 58]);
}

#[test]
fn a_conversation_runs_only_what_is_new() {
    let layout = Layout::default();
    let mut setup = setup(layout);
    let options = greedy(5);
    let first = prompt(20);
    let answer = setup.model.generate(&first, &options).unwrap();
    assert_eq!(answer.usage.reused_tokens, 0);

    // Tokens below 128 come back from text as they were.
    let second = format!("{first}{}and more", answer.text);
    let next = setup.model.generate(&second, &options).unwrap();
    assert_eq!(next.token_ids, expected(&second, 5, &layout));
    // The answer's last token was given out but not run.
    assert_eq!(next.usage.reused_tokens, 24);
    assert_eq!(next.usage.prefilled_tokens, second.len() - 24);

    let fork = format!("{}# another end", &first[..15]);
    let other = setup.model.generate(&fork, &options).unwrap();
    assert_eq!(other.token_ids, expected(&fork, 5, &layout));
    assert_eq!(other.usage.reused_tokens, 15);

    let again = setup.model.generate(&fork, &options).unwrap();
    assert_eq!(again.token_ids, other.token_ids);
    assert_eq!(again.usage.reused_tokens, fork.len() - 1);

    setup.model.reset_states();
    assert_eq!(setup.model.generate(&fork, &options).unwrap().usage.reused_tokens, 0);
}

#[test]
fn sessions_do_not_disturb_each_other() {
    let layout = Layout::default();
    let model = setup(layout).model;
    let (mut a, mut b) = (model.session(), model.session());
    let options = greedy(6);
    let (one, two) = (prompt(11), "other text".to_owned());
    let mut streams = (a.stream(&one, &options).unwrap(), b.stream(&two, &options).unwrap());
    for _ in 0..6 {
        streams.0.next().unwrap().unwrap();
        streams.1.next().unwrap().unwrap();
    }
    assert_eq!(streams.0.generation().token_ids, expected(&one, 6, &layout));
    assert_eq!(streams.1.generation().token_ids, expected(&two, 6, &layout));
}

#[test]
fn after_a_failure_the_conversation_goes_on() {
    let layout = Layout { chunks: 1, ..Layout::default() };
    // Calls: two windows and the last token of the prompt, then single tokens; the fifth fails.
    let mut setup = try_setup(layout, Some(5), None).unwrap();
    let prompt = prompt(17);
    let options = greedy(4);
    let mut stream = setup.model.stream(&prompt, &options).unwrap();
    let tokens: Vec<bool> = stream.by_ref().map(|token| token.is_ok()).collect();
    assert_eq!(tokens, [true, true, false]);
    let again = setup.model.generate(&prompt, &options).unwrap();
    assert_eq!(again.token_ids, expected(&prompt, 4, &layout));
}

#[test]
fn generation_stops_at_the_budget_and_at_the_full_context() {
    let mut setup = setup(Layout::default());
    let cases = [
        (60, 3, 3, FinishReason::Length),
        (60, 4, 4, FinishReason::Length),
        (60, 5, 4, FinishReason::Context),
        (63, 100, 1, FinishReason::Context),
        // A prompt that fills the context is not too long: one token follows it.
        (64, 100, 1, FinishReason::Context),
        (5, 0, 0, FinishReason::Length),
    ];
    for (length, max, count, reason) in cases {
        let generation = setup.model.generate(&prompt(length), &greedy(max)).unwrap();
        assert_eq!((generation.token_ids.len(), generation.finish_reason), (count, reason));
    }
}

#[test]
fn generation_stops_at_an_end_token_unless_told_otherwise() {
    let layout = Layout { vocabulary: 272, ..Layout::default() };
    // A prompt whose third token is the first one that is an end token.
    let ends = |text: &String| {
        let tokens = expected(text, 3, &layout);
        tokens[2] == END && tokens[..2].iter().all(|&token| token < 128 && token != END)
    };
    let prompt = (0..100_000).map(|i| format!("{i}")).find(ends).unwrap();
    let mut setup = setup(layout);
    let options = GenerationOptions::new().max_tokens(6);
    let stopped = setup.model.generate(&prompt, &options).unwrap();
    assert_eq!(stopped.finish_reason, FinishReason::Stop);
    assert_eq!(stopped.token_ids, expected(&prompt, 3, &layout));
    let text: Vec<u8> = stopped.token_ids[..2].iter().map(|&id| id as u8).collect();
    assert_eq!(stopped.text.as_bytes(), text);
    let ignored = setup.model.generate(&prompt, &options.ignore_eos(true)).unwrap();
    assert_eq!(ignored.finish_reason, FinishReason::Length);
    assert_eq!(ignored.token_ids, expected(&prompt, 6, &layout));
}

/// The end token of [`tokenizer`]: `E`, which the fake can give.
const END: u32 = 69;

#[test]
fn sampling_is_reproducible_and_stays_near_the_greedy_choice() {
    let layout = Layout::default();
    let mut model = setup(layout).model;
    let options = greedy(10).temperature(1.5);
    let mut draw = |options: &GenerationOptions| model.generate("seed", options).unwrap().token_ids;
    assert_eq!(draw(&options.clone().seed(1)), draw(&options.clone().seed(1)));
    assert_ne!(draw(&options.clone().seed(1)), draw(&options.clone().seed(2)));
    assert_eq!(draw(&options.clone().top_k(1)), expected("seed", 10, &layout));
    assert_eq!(draw(&options.clone().top_p(1e-9)), expected("seed", 10, &layout));
}

#[test]
fn the_methods_of_old_agree_with_generate() {
    let layout = Layout::default();
    let mut model = setup(layout).model;
    let ids = expected("hello", 7, &layout);
    let text: String = ids.iter().map(|&id| char::from(id as u8)).collect();
    assert_eq!(model.complete_text("hello", 7).unwrap(), text);
    assert_eq!(model.generate_text("hello", 7, 0.0).unwrap(), text);
    assert_eq!(model.generate_text_with_params("hello", 7, 0.9, Some(1)).unwrap(), text);
    assert_eq!(model.tokenize("hi").unwrap(), [104, 105]);
    model.initialize_states().unwrap();
    let shapes = &model.config().shapes;
    assert_eq!((shapes.context_length, shapes.batch_size, shapes.vocab_size), (64, 8, 128));
    assert_eq!(model.config().logits_part_count(), 16);
    assert!(model.config().has_multipart_logits());
}

#[test]
fn prompts_that_do_not_fit_are_errors() {
    let mut model = setup(Layout::default()).model;
    let mut error =
        |prompt: &str| model.generate(prompt, &GenerationOptions::new()).unwrap_err().to_string();
    let long = error(&prompt(65));
    assert!(long.contains("65 tokens") && long.contains("shorten"), "{long}");
    assert!(error(&prompt(500)).contains("500 tokens"));
    assert!(error("").contains("no tokens"));
    let foreign = error("é");
    assert!(foreign.contains("token 195") && foreign.contains("128"), "{foreign}");
    let options = GenerationOptions::new().temperature(-1.0);
    assert!(model.generate("x", &options).is_err());
}

#[test]
fn packages_that_do_not_fit_together_are_errors() {
    let layout = Layout::default();
    let fake = |layout, component| Fake::new(layout, component, Calls::default());
    let with = |other: Layout| {
        vec![
            fake(layout, Component::Embeddings),
            fake(layout, Component::Chunk(0)),
            fake(other, Component::Chunk(1)),
            fake(layout, Component::LmHead),
        ]
    };
    let refused = |fakes| assemble(fakes, None).unwrap_err().to_string();
    let message = refused(with(Layout { context: 32, ..layout }));
    for part in [
        "q_FFN_PF_chunk_02of02",
        "`causal_mask`",
        "[1, 1, 1, 64]",
        "[1, 1, 1, 32]",
        "shapes.context_length",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = refused(with(Layout { window: 4, ..layout }));
    for part in ["`prefill`", "[1, 8, 2]", "[1, 4, 2]", "shapes.batch_size"] {
        assert!(message.contains(part), "{message}");
    }
    let mut missing = with(layout);
    missing.pop();
    assert!(refused(missing).contains("no LM head package"));
}

#[test]
fn embeddings_of_other_lengths_run_piece_by_piece() {
    let layout = Layout::default();
    let prompt = prompt(20);
    for window in [1, 3, 4, 32] {
        let calls = Calls::default();
        let fake = |layout, component| Fake::new(layout, component, calls.clone());
        let fakes = vec![
            fake(Layout { window, ..layout }, Component::Embeddings),
            fake(layout, Component::Chunk(0)),
            fake(layout, Component::Chunk(1)),
            fake(layout, Component::LmHead),
        ];
        let mut model = assemble(fakes, None).unwrap();
        let generation = model.generate(&prompt, &greedy(3)).unwrap();
        assert_eq!(generation.token_ids, expected(&prompt, 3, &layout), "{window}");
    }
}

/// Apple's layout, one token at a time: the default length of the mask means nothing.
#[test]
fn a_mask_of_free_length_leaves_the_context_to_the_cache() {
    let mut mask = half("causalMask", &[1, 1, 1, 1]);
    let mut cache = half("keyCache", &[2, 1, 2, 48, 4]);
    if let (FeatureType::MultiArray(mask), FeatureType::MultiArray(array)) =
        (&mut mask.ty, cache.ty.clone())
    {
        mask.flexibility =
            ShapeFlexibility::Ranges([(1, Some(1)), (1, Some(1)), (1, Some(1)), (1, None)].into());
        cache.ty = FeatureType::State(array);
    }
    let description = ModelDescription {
        inputs: vec![integer("inputIds", &[1, 1]), mask],
        outputs: vec![half("logits", &[1, 1, 100])],
        states: vec![cache],
        default_function: "main".to_owned(),
        ..ModelDescription::default()
    };
    let mut discovery = Discovery::of_descriptions(&[("model", &description)], None).unwrap();
    let infer = &discovery.components.chunks[0].infer;
    let key = (infer.path.clone(), infer.function.name.clone());
    let cache_uses = [("keyCache".to_owned(), config::CacheUse::Positioned)].into();
    discovery.facts.insert(key, config::FunctionFacts { cache_uses, ..Default::default() });
    let layout = super::Layout::new(&discovery).unwrap();
    assert_eq!((layout.context, layout.window, layout.vocabulary()), (48, 1, 100));
}

/// As ANEMLL 0.3.4 exports Qwen models in several chunks.
#[test]
fn a_norm_between_chunks_is_told() {
    let layout = Layout::default();
    let fakes: Vec<Fake> =
        [Component::Embeddings, Component::Chunk(0), Component::Chunk(1), Component::LmHead]
            .into_iter()
            .map(|component| Fake::new(layout, component, Calls::default()))
            .collect();
    let stems: Vec<String> = fakes.iter().map(Fake::stem).collect();
    let described: Vec<_> =
        stems.iter().map(String::as_str).zip(fakes.iter().map(|fake| fake.description())).collect();
    let mut discovery = Discovery::of_descriptions(&described, None).unwrap();
    let normed = |chunk: usize| {
        let infer = &discovery.components.chunks[chunk].infer;
        let facts = config::FunctionFacts { ends_with_norm: true, ..Default::default() };
        ((infer.path.clone(), infer.function.name.clone()), facts)
    };
    let (first, last) = (normed(0), normed(1));
    let told = |discovery: &Discovery| {
        let findings = super::Layout::new(discovery).unwrap().findings;
        findings.iter().any(|finding| finding.contains("final norm"))
    };
    discovery.facts.extend([last]);
    assert!(!told(&discovery));
    discovery.facts.extend([first]);
    assert!(told(&discovery));
}

#[test]
fn a_chunk_without_prefill_means_token_by_token() {
    let layout = Layout::default();
    let calls = Calls::default();
    let fake = |layout, component| Fake::new(layout, component, calls.clone());
    let fakes = vec![
        fake(layout, Component::Embeddings),
        fake(layout, Component::Chunk(0)),
        fake(Layout { window: 1, ..layout }, Component::Chunk(1)),
        fake(layout, Component::LmHead),
    ];
    let mut model = assemble(fakes, None).unwrap();
    assert!(model.findings().iter().any(|finding| finding.contains("no `prefill`")));
    let prompt = prompt(20);
    let generation = model.generate(&prompt, &greedy(3)).unwrap();
    assert_eq!(generation.token_ids, expected(&prompt, 3, &layout));
    assert!(calls.lock().unwrap().iter().all(|call| call.0 == "infer"));
}

#[test]
fn directories_without_a_model_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let load = || LanguageModel::load(directory.path()).unwrap_err().to_string();
    assert!(load().contains("no model packages"));
    write_byte_tokenizer(directory.path());
    assert!(load().contains("no model packages"));
    std::fs::create_dir(directory.path().join("q_FFN_PF.mlpackage")).unwrap();
    let message = load();
    assert!(message.contains("no FFN package") && message.contains("can't be read"), "{message}");
}
