//! What programs written for candle-coreml 0.2 and 0.3 call still compiles, with other imports at
//! most, and does what it should have done: the faults of those versions have a test each.

#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_coreml::utils::{mask, multi_component, sampling};
use candle_coreml::{
    ConfigGenerator, ModelConfig, ModelNamingConfig, QwenConfig, QwenModel, get_builtin_config,
};
use serde_json::{Value as Json, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llm").join(name)
}

/// A prompt of the fixture with its reference tokens, as far as they are beyond doubt.
fn golden(name: &str) -> Vec<(String, Vec<i64>)> {
    let text = std::fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    let prompt = |prompt: &Json| {
        let robust = usize::try_from(prompt["robust_prefix_len"].as_u64().unwrap()).unwrap();
        let ids = prompt["next_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap());
        (prompt["prompt"].as_str().unwrap().to_owned(), ids.take(robust).collect())
    };
    expected["prompts"].as_array().unwrap().iter().map(prompt).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// The calls of the typo fixer, the one program known to stand on the older crate, in its order:
/// a configuration by hand with another machine's paths, mended, and text with a temperature.
#[test]
fn the_typo_fixers_calls() {
    let directory = fixture("two-chunks-fp16");
    let generator = ConfigGenerator::new().unwrap();
    let generated =
        generator.generate_config_from_directory(&directory, "me/model", "qwen").unwrap();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("model.json");
    generated.save_to_file(&path).unwrap();

    let mut model_config = ModelConfig::load_from_file(path.to_str().unwrap()).unwrap();
    assert_eq!(model_config, generated);
    for (_, component) in model_config.components.iter_mut() {
        if let Some(name) = component.file_path.clone() {
            component.file_path = Some(format!("/Users/somebody/models/{name}"));
        }
    }
    let config = QwenConfig::from_model_config(model_config);
    let mut model = QwenModel::load_from_directory(&directory, Some(config)).unwrap();
    let (prompt, _) = &golden("two-chunks-fp16")[0];
    let temperature: f32 = 0.1;
    let greedy: String = model.generate_text(prompt, 5, 0.0).unwrap();
    let warm: String = model.generate_text(prompt, 5, temperature).unwrap();
    assert!(!greedy.is_empty() && !warm.is_empty());

    let named = QwenConfig::default().with_naming(ModelNamingConfig::custom("qwen", ".mlpackage"));
    let mut named = QwenModel::load_from_directory(&directory, Some(named)).unwrap();
    assert_eq!(named.complete_text(prompt, 5).unwrap(), greedy);
    let default = QwenModel::load_from_directory(&directory, Some(QwenConfig::default()));
    assert_eq!(default.unwrap().generate_text(prompt, 5, 0.0).unwrap(), greedy);
    assert!(get_builtin_config("someone/unknown").is_none());
}

/// Configurations of the older crate state functions loosely and carry fields of their own.
#[test]
fn configurations_of_the_older_crate_are_read() {
    let text = json!({
        "model_info": {"path": "/Users/a/b", "model_type": "qwen", "discovered_at": "2025-08-09"},
        "shapes": {"batch_size": 1, "context_length": 256, "hidden_size": 32, "vocab_size": 259},
        "components": {
            "embeddings": {"file_path": "/x/q_embeddings.mlpackage", "functions": [],
                "inputs": {"input_ids": {"name": "input_ids", "shape": [1, 64], "data_type": "INT32"}},
                "outputs": {}},
            "ffn_prefill": {"file_path": null, "inputs": {}, "outputs": {}, "functions": []},
            "ffn_infer": {"file_path": null, "inputs": {}, "outputs": {}, "functions": [],
                "input_order": ["hidden_states"]},
            "lm_head": {"file_path": null, "inputs": {}, "functions": [],
                "outputs": {"logits": {"name": "logits", "shape": [1, 1, 259], "data_type": "FLOAT16"}}}
        },
        "naming": {"embeddings_pattern": "q_embeddings*"},
        "ffn_execution": "split"
    });
    let config: ModelConfig = serde_json::from_value(text).unwrap();
    config.validate().unwrap();
    assert!(config.ffn_is_split());
    assert_eq!(config.logits_part_count(), 1);
    assert_eq!(config.lm_head_primary_output_name().unwrap(), "logits");
    assert_eq!(config.get_tensor_shape("embeddings", "input_ids", true), Some(&vec![1, 64]));
    assert_eq!(config.embeddings_input_shape(), Some(&vec![1, 64]));
}

#[test]
fn a_wrong_shape_is_told_with_its_place_and_setting() {
    let directory = fixture("two-chunks-fp16");
    let generator = ConfigGenerator::new().unwrap();
    let good = generator.generate_config_from_directory(&directory, "me/model", "qwen").unwrap();
    let window = good.shapes.batch_size;
    let hidden = good.shapes.hidden_size;
    assert!(window > 1);

    let mut wrong = good.clone();
    let prefill = wrong.components.get_mut("ffn_prefill").unwrap();
    prefill.inputs.get_mut("hidden_states").unwrap().shape = vec![1, window + 1, hidden];
    let message = wrong.validate_internal_wiring().unwrap_err().to_string();
    for part in ["`ffn_prefill`", "`hidden_states`", "shapes.batch_size"] {
        assert!(message.contains(part), "{message}");
    }
    let load = |config: ModelConfig| {
        let config = QwenConfig::from_model_config(config);
        QwenModel::load_from_directory(&directory, Some(config)).unwrap_err().to_string()
    };
    let message = load(wrong);
    let expected = format!("[1, {}, {hidden}]", window + 1);
    let found = format!("[1, {window}, {hidden}]");
    for part in ["`ffn_prefill`", "`hidden_states`", &expected, &found, "shapes.batch_size"] {
        assert!(message.contains(part), "{message}");
    }

    // A configuration that leaves the packages to be found, such as a built-in one, may be wrong.
    let mut sizes_only = good.clone();
    for component in sizes_only.components.values_mut() {
        component.file_path = None;
    }
    let prefill = sizes_only.components.get_mut("ffn_prefill").unwrap();
    prefill.inputs.get_mut("hidden_states").unwrap().shape = vec![1, window + 1, hidden];
    let config = QwenConfig::from_model_config(sizes_only);
    let model = QwenModel::load_from_directory(&directory, Some(config)).unwrap();
    assert!(model.findings().iter().any(|finding| finding.contains("shapes.batch_size")));

    let mut missing = good.clone();
    missing.components.get_mut("lm_head").unwrap().file_path = Some("no.mlpackage".to_owned());
    let message = load(missing);
    assert!(message.contains("components.lm_head.file_path"), "{message}");
    let mut layers_only = good.clone();
    layers_only.components.remove("embeddings");
    let message = load(layers_only);
    assert!(message.contains("components.embeddings.file_path"), "{message}");
    let mut function = good;
    function.components.get_mut("ffn_infer").unwrap().functions = vec!["inferno".to_owned()];
    let message = load(function);
    assert!(message.contains("`inferno`") && message.contains("`infer`"), "{message}");
}

/// A configuration that lies in the model's directory may come from anybody.
#[test]
fn a_models_own_configuration_does_not_lead_out_of_its_directory() {
    let model = tempfile::tempdir().unwrap();
    let generator = ConfigGenerator::new().unwrap();
    let fixture = fixture("two-chunks-fp16");
    let mut config = generator.generate_config_from_directory(&fixture, "a/b", "qwen").unwrap();
    for component in config.components.values_mut() {
        let name = component.file_path.take().unwrap();
        component.file_path = Some(fixture.join(name).display().to_string());
    }
    let outside = QwenConfig::from_model_config(config.clone());
    std::fs::copy(fixture.join("tokenizer.json"), model.path().join("tokenizer.json")).unwrap();
    assert!(QwenModel::load_from_directory(model.path(), Some(outside)).is_ok());
    config.save_to_file(model.path().join("model_config.json")).unwrap();
    let message = QwenModel::load_from_directory(model.path(), None).unwrap_err().to_string();
    assert!(message.contains("there is no") && message.contains("file_path"), "{message}");
}

/// Fault 7: the batch size was the smallest dimension instead of the window.
#[test]
fn the_batch_size_is_the_prefill_window() {
    let model = QwenModel::load_from_directory(fixture("two-chunks-fp16"), None).unwrap();
    let config = model.config();
    let shape = config.model_config.ffn_prefill_input_shape().unwrap();
    assert_eq!(config.batch_size(), shape[1]);
    assert!(config.model_config.expects_full_sequence_prefill());
    config.model_config.validate().unwrap();
    config.model_config.validate_internal_wiring().unwrap();
    let single = QwenModel::load_from_directory(fixture("window-1"), None).unwrap();
    assert_eq!(single.config().batch_size(), 1);
    assert!(single.config().model_config.prefill_is_single_token());
}

/// Faults 1 and 2: a prompt longer than the window, and the token after it.
#[test]
fn the_token_after_a_prompt_follows_its_last_token() {
    let mut model = QwenModel::load_from_directory(fixture("two-chunks-fp16"), None).unwrap();
    let window = model.config().batch_size();
    let mut long = 0;
    for (prompt, next) in golden("two-chunks-fp16") {
        let Some(first) = next.first() else { continue };
        assert_eq!(model.forward_text(&prompt).unwrap(), *first, "{prompt}");
        long += usize::from(model.tokenize(&prompt).unwrap().len() > window);
    }
    assert!(long > 0, "no prompt is longer than a window");
}

/// Fault 3: the update mask was always that of position 0.
#[test]
fn the_update_mask_is_that_of_the_position() {
    let update = mask::create_update_mask(2, 4, &Device::Cpu).unwrap();
    assert_eq!(update.dims(), [1, 1, 4, 1]);
    assert_eq!(floats(&update), [0.0, 0.0, 1.0, 0.0]);
    assert!(mask::create_update_mask(4, 4, &Device::Cpu).is_err());
}

/// Fault 4: a single output `logits` was refused.
#[test]
fn logits_in_one_part_and_in_several_are_joined_in_order() {
    let part =
        |values: &[f32]| Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap();
    let one = [("logits".to_owned(), part(&[1.0, 2.0]))].into();
    assert_eq!(floats(&multi_component::combine_chunked_logits(one, 1).unwrap()), [1.0, 2.0]);
    let mut parts: std::collections::HashMap<String, Tensor> =
        (1..=11).map(|n| (format!("logits{n}"), part(&[n as f32]))).collect();
    let joined = multi_component::combine_chunked_logits(parts.clone(), 11).unwrap();
    assert_eq!(floats(&joined), (1..=11).map(|n| n as f32).collect::<Vec<_>>());
    parts.remove("logits7");
    let message = multi_component::combine_chunked_logits(parts, 11).unwrap_err().to_string();
    assert!(message.contains("`logits7`"), "{message}");
}

/// Fault 6: positions and masks by mode, also for a vector of positions.
#[test]
fn positions_and_masks_follow_the_mode() {
    let mut config = QwenConfig::default();
    config.model_config.shapes.batch_size = 4;
    let ids = config.create_embeddings_input_tensor(&[7, 8]).unwrap();
    assert_eq!(ids.to_vec2::<i64>().unwrap(), [[7, 8, 0, 0]]);
    let one = config.create_single_token_embeddings_input(7).unwrap();
    assert_eq!(one.to_vec2::<i64>().unwrap(), [[7]]);
    assert!(config.create_embeddings_input_tensor(&[0; 5]).is_err());

    let positions = |positions: &[i64], prefill| {
        let tensor = config.create_position_ids_with_mode_detection(positions, prefill);
        tensor.unwrap().to_vec1::<i64>().unwrap()
    };
    assert_eq!(positions(&[4, 5], true), [4, 5, 6, 7]);
    assert_eq!(positions(&[4, 5], false), [5]);
    assert!(config.create_position_ids_with_mode_detection(&[], false).is_err());

    let no = f32::NEG_INFINITY;
    let row = config.create_causal_mask_with_mode_detection(1, 5, false).unwrap();
    assert_eq!(floats(&row), [0.0, 0.0, no, no, no]);
    let rows = config.create_causal_mask_with_mode_detection(1, 5, true).unwrap();
    assert_eq!(rows.dims(), [1, 1, 4, 5]);
    assert_eq!(floats(&rows)[15..], [0.0; 5]);
    // Fault 8: a position outside of the context panicked.
    assert!(config.create_causal_mask_with_mode_detection(5, 5, false).is_err());
    assert!(config.create_causal_mask_with_mode_detection(usize::MAX, 5, true).is_err());
    assert_eq!(config.create_current_pos_tensor(3).unwrap().to_vec1::<i64>().unwrap(), [3]);
    let square = mask::create_causal_mask(2, &Device::Cpu).unwrap();
    assert_eq!(square.to_vec2::<f32>().unwrap(), [[0.0, no], [0.0, 0.0]]);
    let row = mask::create_position_mask(0, 2, &Device::Cpu).unwrap();
    assert_eq!(row.to_vec2::<f32>().unwrap(), [[0.0, no]]);
    let row = mask::create_rank4_position_mask(1, 3, &Device::Cpu).unwrap();
    assert_eq!((row.dims(), floats(&row)), (&[1, 1, 1, 3][..], vec![0.0, 0.0, no]));
    assert!(mask::create_position_mask(2, 2, &Device::Cpu).is_err());
}

/// Fault 8: of equal logits one function took the last, another the first.
#[test]
fn of_equal_logits_the_first_is_taken_everywhere() {
    let logits = Tensor::new(&[[1.0f32, 3.0, 3.0, 2.0]], &Device::Cpu).unwrap();
    assert_eq!(sampling::greedy_sample(&logits).unwrap(), 1);
    assert_eq!(sampling::sample_with_temperature(&logits, 0.0).unwrap(), 1);
    assert_eq!(sampling::sample_top_k(&logits, 1, 0.7).unwrap(), 1);
    assert!(sampling::sample_with_temperature(&logits, -1.0).is_err());
}

/// Fault 14: `load_from_directory(dir, None)` always failed.
#[test]
fn a_directory_is_all_that_loading_needs() {
    let mut model = QwenModel::load_from_directory(fixture("two-chunks-fp16"), None).unwrap();
    let (prompt, next) = &golden("two-chunks-fp16")[0];
    let tokens = model.generate_tokens_topk_temp(prompt, next.len(), 0.0, None).unwrap();
    assert_eq!(tokens, *next);
    model.initialize_states().unwrap();
    model.reset_states();
    assert_eq!(model.pad_tokens(&[1, 2]).len(), model.config().batch_size());
    #[expect(deprecated)]
    let standard = QwenConfig::for_standard_qwen();
    assert!(QwenModel::load_from_directory(fixture("two-chunks-fp16"), Some(standard)).is_ok());
    let known = "anemll/anemll-Qwen-Qwen3-0.6B-LUT888-ctx512_0.3.4";
    assert_eq!(QwenConfig::for_model_id(known).unwrap().vocab_size(), 151_936);
    assert!(QwenConfig::for_model_id("x/y").unwrap_err().to_string().contains("x/y"));
}

/// Downloads and models by name; what they do is tested where the hub is.
#[cfg(feature = "hub")]
#[test]
fn models_by_name_are_called_as_before() {
    use candle_coreml::hub::{
        download_model, download_model_to, ensure_model_downloaded, get_cached_model_path,
        verify_download_completeness,
    };
    use candle_coreml::{LanguageModel, Result, UnifiedModelLoader};

    let _: fn(&str, bool) -> Result<PathBuf> = download_model;
    let _: fn(&str, bool) -> Result<PathBuf> = ensure_model_downloaded;
    let _: fn(&str) -> Option<PathBuf> = get_cached_model_path;
    let _ = |directory: &Path| download_model_to("org/name", directory, false);
    let model = fixture("two-chunks-fp16");
    verify_download_completeness(&model, &["tokenizer.json", "meta.yaml"]).unwrap();
    assert!(verify_download_completeness(&model, &["no.json"]).is_err());

    let loader = UnifiedModelLoader::new().unwrap();
    let _ = |id: &str| -> Result<LanguageModel> { loader.load_model(id) };
    let generator = &loader.config_generator;
    let config = generator.generate_config_from_directory(&model, "me/model", "qwen").unwrap();
    let loaded: QwenModel = loader.load_model_from_config(&config).unwrap().into();
    assert_eq!(loaded.config().model_config.shapes, config.shapes);
    let nowhere = loader.load_model_from_config(&ModelConfig::default_qwen()).unwrap_err();
    assert!(nowhere.to_string().contains("model_info.path"), "{nowhere}");
}
