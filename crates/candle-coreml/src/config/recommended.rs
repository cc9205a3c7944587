//! How a model's makers recommend to generate with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::bounds::{
    ENCODER_REPETITION_PENALTY, EPSILON_CUTOFF, ETA_CUTOFF, FREQUENCY_PENALTY, LENGTH_FACTOR,
    MIN_P, PRESENCE_PENALTY, REPETITION_PENALTY, SEQUENCE_BIAS, TEMPERATURE, TOP_H, TOP_P,
    TYPICAL_P,
};
use super::discovery::Discovery;
use super::layout::Layout;
use super::settings::{IgnoredSetting, Settings, id, ids};
use crate::error::Result;

/// How a model's makers recommend to generate with it: see
/// [`GenerationOptions::recommended`](crate::GenerationOptions::recommended). Names and meanings are
/// those of the `GenerationConfig` of Hugging Face's transformers; a value that no file gives is
/// `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecommendedSampling {
    /// Names of the files that the values come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// True for sampling; otherwise the most likely token is taken, and `temperature`, `top_k`,
    /// `top_p`, `min_p`, `top_h`, `typical_p` and the cutoffs say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_sample: Option<bool>,
    /// See [`GenerationOptions::temperature`](crate::GenerationOptions::temperature); 1 if not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// See [`GenerationOptions::top_k`](crate::GenerationOptions::top_k); 0 means all tokens, and 50
    /// it is if not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// See [`GenerationOptions::top_p`](crate::GenerationOptions::top_p); 0 means the most likely
    /// token alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// See [`GenerationOptions::min_p`](crate::GenerationOptions::min_p).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// See [`GenerationOptions::top_h`](crate::GenerationOptions::top_h).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_h: Option<f64>,
    /// See [`GenerationOptions::typical_p`](crate::GenerationOptions::typical_p).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f64>,
    /// See [`GenerationOptions::epsilon_cutoff`](crate::GenerationOptions::epsilon_cutoff).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_cutoff: Option<f64>,
    /// See [`GenerationOptions::eta_cutoff`](crate::GenerationOptions::eta_cutoff).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_cutoff: Option<f64>,
    /// See [`GenerationOptions::repetition_penalty`](crate::GenerationOptions::repetition_penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// See [`GenerationOptions::encoder_repetition_penalty`](crate::GenerationOptions::encoder_repetition_penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_repetition_penalty: Option<f64>,
    /// See [`GenerationOptions::presence_penalty`](crate::GenerationOptions::presence_penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// See [`GenerationOptions::frequency_penalty`](crate::GenerationOptions::frequency_penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// See [`GenerationOptions::no_repeat_ngram_size`](crate::GenerationOptions::no_repeat_ngram_size).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<usize>,
    /// See [`GenerationOptions::encoder_no_repeat_ngram_size`](crate::GenerationOptions::encoder_no_repeat_ngram_size).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// `sequence_bias`, and with negative infinity the sequences of `bad_words_ids` and the tokens
    /// of `suppress_tokens`: see
    /// [`GenerationOptions::sequence_bias`](crate::GenerationOptions::sequence_bias).
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "pairs")]
    pub sequence_bias: BTreeMap<Vec<u32>, f64>,
    /// See [`GenerationOptions::begin_suppress_tokens`](crate::GenerationOptions::begin_suppress_tokens).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begin_suppress_tokens: Vec<u32>,
    /// See [`GenerationOptions::forced_bos_token`](crate::GenerationOptions::forced_bos_token).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_bos_token_id: Option<u32>,
    /// See [`GenerationOptions::forced_eos_tokens`](crate::GenerationOptions::forced_eos_tokens).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forced_eos_token_id: Vec<u32>,
    /// See [`GenerationOptions::exponential_decay_length_penalty`](crate::GenerationOptions::exponential_decay_length_penalty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_decay_length_penalty: Option<(usize, f64)>,
    /// See [`GenerationOptions::min_length`](crate::GenerationOptions::min_length).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<usize>,
    /// See [`GenerationOptions::min_tokens`](crate::GenerationOptions::min_tokens).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<usize>,
    /// See [`GenerationOptions::max_length`](crate::GenerationOptions::max_length).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// See [`GenerationOptions::max_tokens`](crate::GenerationOptions::max_tokens); goes before
    /// `max_length`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// See [`GenerationOptions::stop`](crate::GenerationOptions::stop).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_strings: Vec<String>,
    /// What is not gone by, with reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredSetting>,
}

const NO_LOGITS: &str = "the model chooses the most likely token itself and gives no logits";

/// Settings that are for more than one continuation at a time, for another way to decode, or
/// otherwise for what is not done here: the value that changes nothing, and why others are not gone
/// by.
const NOT_DONE: &[(&str, Neutral, &str)] = &[
    ("num_beams", Neutral::One, "there is no beam search here"),
    ("num_beam_groups", Neutral::One, "there is no beam search here"),
    ("diversity_penalty", Neutral::Zero, "there is no beam search here"),
    ("constraints", Neutral::None, "there is no beam search here"),
    ("force_words_ids", Neutral::None, "there is no beam search here"),
    ("num_return_sequences", Neutral::One, "a generation is one text here"),
    ("penalty_alpha", Neutral::Zero, "there is no contrastive search here"),
    ("dola_layers", Neutral::None, "an export gives no logits of its layers"),
    (
        "guidance_scale",
        Neutral::One,
        "the model runs once for each token, not with and without prompt",
    ),
    ("watermarking_config", Neutral::None, "text is not watermarked here"),
    ("token_healing", Neutral::False, "the prompt's tokens are taken as they are"),
    ("remove_invalid_values", Neutral::False, "logits that are no numbers are an error"),
    ("max_time", Neutral::None, "no clock ends a text here; a `CancelToken` can"),
];

/// The value of a setting that changes nothing.
#[derive(Clone, Copy)]
enum Neutral {
    None,
    Zero,
    One,
    False,
}

impl Neutral {
    fn value(self) -> Json {
        match self {
            Neutral::None => Json::Null,
            Neutral::Zero => json!(0),
            Neutral::One => json!(1),
            Neutral::False => json!(false),
        }
    }
}

/// Settings that change no token here: ids that are read with the tokenizer, what goes with beams,
/// what makes transformers faster or says what its results hold, and notes.
const SILENT: &[&str] = &[
    "pad_token_id",
    "bos_token_id",
    "decoder_start_token_id",
    "length_penalty",
    "early_stopping",
    "renormalize_logits",
    "low_memory",
    "use_cache",
    "use_mtp",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "return_legacy_cache",
    "prefill_chunk_size",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "assistant_ensemble_weight",
    "target_lookbehind",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "speculation_type",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "transformers_version",
    "trust_remote_code",
];

impl RecommendedSampling {
    /// What `generation_config.json` of a model's directory says; nothing where it is missing.
    ///
    /// # Errors
    /// When the file is not valid JSON.
    pub fn read(directory: impl AsRef<Path>) -> Result<Self> {
        let settings = Settings::read(directory.as_ref(), None)?;
        Ok(Self::from_settings(settings, usize::MAX, true))
    }

    /// What `generation_config.json` and `meta.yaml` say, the latter before the former.
    pub(crate) fn of(discovery: &Discovery, layout: &Layout) -> Result<Self> {
        let settings = Settings::read(&discovery.directory, discovery.manifest.as_ref())?;
        Ok(Self::from_settings(settings, layout.vocabulary(), layout.head.gives_logits()))
    }

    fn from_settings(mut settings: Settings, vocabulary: usize, logits: bool) -> Self {
        let mut recommended = Self::all(&mut settings, vocabulary);
        if !logits {
            let all = recommended.keys();
            recommended = recommended.without_logits();
            let kept = recommended.keys();
            for key in all.iter().filter(|key| !kept.contains(key)) {
                settings.ignore(key, NO_LOGITS);
            }
            if all.iter().any(|key| key == SEQUENCE_BIAS.key) {
                settings.ignore("bad_words_ids", NO_LOGITS);
                settings.ignore("suppress_tokens", NO_LOGITS);
            }
        }
        for (key, neutral, reason) in NOT_DONE {
            settings.unless(key, &neutral.value(), reason);
        }
        settings.ignore_others(SILENT);
        RecommendedSampling { files: settings.files(), ignored: settings.ignored, ..recommended }
    }

    /// Names of the settings that are told.
    fn keys(&self) -> Vec<String> {
        match serde_json::to_value(self) {
            Ok(Json::Object(told)) => told.into_iter().map(|(key, _)| key).collect(),
            _ => Vec::new(),
        }
    }

    fn all(settings: &mut Settings, vocabulary: usize) -> Self {
        let ends = settings.ids("eos_token_id").unwrap_or_default();
        let mut recommended = RecommendedSampling {
            do_sample: settings.setting("do_sample", "true or false", Json::as_bool),
            repetition_penalty: settings.number(&REPETITION_PENALTY),
            encoder_repetition_penalty: settings.number(&ENCODER_REPETITION_PENALTY),
            presence_penalty: settings.number(&PRESENCE_PENALTY),
            frequency_penalty: settings.number(&FREQUENCY_PENALTY),
            no_repeat_ngram_size: settings.count("no_repeat_ngram_size"),
            encoder_no_repeat_ngram_size: settings.count("encoder_no_repeat_ngram_size"),
            exponential_decay_length_penalty: settings.setting(
                LENGTH_FACTOR.key,
                LENGTH_FACTOR.expected,
                length_penalty,
            ),
            min_length: settings.count("min_length"),
            min_new_tokens: settings.count("min_new_tokens"),
            max_length: settings.count("max_length"),
            max_new_tokens: settings.setting("max_new_tokens", "a whole number above 0", |value| {
                usize::try_from(value.as_u64()?).ok().filter(|&tokens| tokens > 0)
            }),
            stop_strings: settings
                .setting("stop_strings", "a text, or a list of them, none empty", texts)
                .unwrap_or_default(),
            ..Self::default()
        };
        recommended.read_sampling(settings);
        recommended.read_tokens(settings, &ends, vocabulary);
        recommended
    }

    /// What is for sampling alone.
    fn read_sampling(&mut self, settings: &mut Settings) {
        self.temperature = settings.number(&TEMPERATURE);
        self.top_k = settings.count("top_k");
        // Nothing but the most likely token reaches no share at all.
        self.top_p = settings.setting(TOP_P.key, "0 to 1", |value| {
            value.as_f64().filter(|&share| share == 0.0 || TOP_P.allows(share))
        });
        self.min_p = settings.number(&MIN_P);
        self.top_h = settings.number(&TOP_H);
        self.typical_p = settings.number(&TYPICAL_P);
        self.epsilon_cutoff = settings.number(&EPSILON_CUTOFF);
        self.eta_cutoff = settings.number(&ETA_CUTOFF);
        if self.do_sample == Some(true) {
            return;
        }
        let told = [
            (TEMPERATURE.key, self.temperature.is_some_and(|value| value != 1.0 && value != 0.0)),
            ("top_k", self.top_k.is_some_and(|value| value != 50 && value != 0)),
            (TOP_P.key, self.top_p.is_some_and(|value| value != 1.0)),
            (MIN_P.key, self.min_p.is_some_and(|value| value != 0.0)),
            (TOP_H.key, self.top_h.is_some()),
            (TYPICAL_P.key, self.typical_p.is_some_and(|value| value != 1.0)),
            (EPSILON_CUTOFF.key, self.epsilon_cutoff.is_some_and(|value| value != 0.0)),
            (ETA_CUTOFF.key, self.eta_cutoff.is_some_and(|value| value != 0.0)),
        ];
        for (key, _) in told.into_iter().filter(|(_, told)| *told) {
            settings.ignore(key, "it is for sampling, and `do_sample` is not true");
        }
    }

    /// What names tokens. Those that the model does not know can't be chosen anyway, and are left
    /// out.
    fn read_tokens(&mut self, settings: &mut Settings, ends: &[u32], vocabulary: usize) {
        let known = |id: &u32| (*id as usize) < vocabulary;
        let unknown = format!("the model knows no tokens but those below {vocabulary}");
        let biased = settings.setting(
            SEQUENCE_BIAS.key,
            "a list of pairs, each a list of ids and a number",
            sequence_bias,
        );
        let bad =
            settings.setting("bad_words_ids", "a list of lists of ids, none empty", sequences);
        let forbidden = bad.unwrap_or_default().into_iter().filter(|ids| match ids.as_slice() {
            // An end token by itself stays possible.
            [id] => !ends.contains(id),
            _ => true,
        });
        let suppressed = settings.ids("suppress_tokens").unwrap_or_default();
        let never = forbidden.chain(suppressed.into_iter().map(|id| vec![id]));
        let all =
            biased.unwrap_or_default().into_iter().chain(never.map(|ids| (ids, f64::NEG_INFINITY)));
        self.sequence_bias = all.filter(|(ids, _)| ids.iter().all(known)).collect();
        let at_begin = settings.ids("begin_suppress_tokens").unwrap_or_default();
        self.begin_suppress_tokens = at_begin.into_iter().filter(known).collect();
        self.forced_bos_token_id = settings.setting("forced_bos_token_id", "the id of a token", id);
        if self.forced_bos_token_id.is_some_and(|id| !known(&id)) {
            self.forced_bos_token_id = None;
            settings.ignore("forced_bos_token_id", unknown.as_str());
        }
        let forced = settings.ids("forced_eos_token_id").unwrap_or_default();
        self.forced_eos_token_id = forced.iter().copied().filter(known).collect();
        if self.forced_eos_token_id.len() < forced.len() {
            settings.ignore("forced_eos_token_id", unknown);
        }
    }

    /// What is left for a model that chooses the most likely token itself.
    fn without_logits(self) -> Self {
        RecommendedSampling {
            do_sample: self.do_sample.filter(|sampling| !sampling),
            max_length: self.max_length,
            max_new_tokens: self.max_new_tokens,
            stop_strings: self.stop_strings,
            ..Self::default()
        }
    }
}

fn length_penalty(value: &Json) -> Option<(usize, f64)> {
    let [start, factor] = value.as_array()?.as_slice() else { return None };
    let factor = factor.as_f64().filter(|&factor| LENGTH_FACTOR.allows(factor))?;
    Some((usize::try_from(start.as_u64()?).ok()?, factor))
}

fn texts(value: &Json) -> Option<Vec<String>> {
    let text = |value: &Json| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    match value {
        Json::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

fn sequence(value: &Json) -> Option<Vec<u32>> {
    ids(value.as_array()?).filter(|ids| !ids.is_empty())
}

fn sequences(value: &Json) -> Option<Vec<Vec<u32>>> {
    value.as_array()?.iter().map(sequence).collect()
}

fn sequence_bias(value: &Json) -> Option<Vec<(Vec<u32>, f64)>> {
    let pair = |value: &Json| match value.as_array()?.as_slice() {
        [ids, bias] => {
            let bias = bias.as_f64().filter(|&bias| SEQUENCE_BIAS.allows(bias))?;
            Some((sequence(ids)?, bias))
        }
        _ => None,
    };
    value.as_array()?.iter().map(pair).collect()
}

/// As the file has it; negative infinity is `null` in JSON.
fn pairs<S: Serializer>(
    biases: &BTreeMap<Vec<u32>, f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(biases)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Manifest;
    use super::super::settings::SHOWN;
    use super::*;

    /// What is read of `generation_config.json`, for a model of ten tokens.
    fn read(json: &str, logits: bool) -> RecommendedSampling {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("generation_config.json"), json).unwrap();
        let settings = Settings::read(directory.path(), None).unwrap();
        RecommendedSampling::from_settings(settings, 10, logits)
    }

    fn keys(recommended: &RecommendedSampling) -> Vec<&str> {
        recommended.ignored.iter().map(|setting| setting.key.as_str()).collect()
    }

    #[test]
    fn no_file_recommends_nothing_and_a_broken_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let read = || RecommendedSampling::read(directory.path());
        assert_eq!(read().unwrap(), RecommendedSampling::default());
        for text in ["{", "[]", "3"] {
            std::fs::write(directory.path().join("generation_config.json"), text).unwrap();
            assert!(read().unwrap_err().to_string().contains("generation_config.json"));
        }
    }

    #[test]
    fn what_can_not_be_gone_by_is_told_with_file_key_value_and_reason() {
        let cases = [
            (
                r#"{"temperature": "0.7", "do_sample": true}"#,
                "temperature",
                r#""0.7""#,
                "a positive number",
            ),
            (r#"{"temperature": -1, "do_sample": true}"#, "temperature", "-1", "a positive number"),
            (r#"{"temperature": 0.5}"#, "temperature", "0.5", "`do_sample` is not true"),
            (r#"{"do_sample": 1}"#, "do_sample", "1", "true or false"),
            (r#"{"top_k": 2.5}"#, "top_k", "2.5", "whole number"),
            (r#"{"top_k": -1}"#, "top_k", "-1", "whole number"),
            (r#"{"top_p": 1.5}"#, "top_p", "1.5", "0 to 1"),
            (r#"{"min_p": 2}"#, "min_p", "2", "0 to 1"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty", "0", "positive number"),
            (r#"{"repetition_penalty": 1e-300}"#, "repetition_penalty", "1e-300", "32 bits"),
            (r#"{"max_new_tokens": 0}"#, "max_new_tokens", "0", "above 0"),
            (r#"{"stop_strings": ["a", ""]}"#, "stop_strings", r#"["a",""]"#, "none empty"),
            (r#"{"bad_words_ids": [3]}"#, "bad_words_ids", "[3]", "lists of ids"),
            (r#"{"bad_words_ids": [[]]}"#, "bad_words_ids", "[[]]", "none empty"),
            (r#"{"suppress_tokens": [-1]}"#, "suppress_tokens", "[-1]", "a list of them"),
            (r#"{"sequence_bias": {"a": 1}}"#, "sequence_bias", r#"{"a":1}"#, "pairs"),
            (r#"{"sequence_bias": [[[1], 1e39]]}"#, "sequence_bias", "[[[1],1e+39]]", "pairs"),
            (
                r#"{"exponential_decay_length_penalty": 2}"#,
                "exponential_decay_length_penalty",
                "2",
                "factor",
            ),
            (r#"{"forced_bos_token_id": 10}"#, "forced_bos_token_id", "10", "below 10"),
            (r#"{"forced_eos_token_id": [2, 11]}"#, "forced_eos_token_id", "[2,11]", "below 10"),
            (r#"{"eos_token_id": "2"}"#, "eos_token_id", r#""2""#, "id of a token"),
            (r#"{"num_beams": 4}"#, "num_beams", "4", "beam search"),
            (r#"{"num_return_sequences": 2}"#, "num_return_sequences", "2", "one text"),
            (r#"{"penalty_alpha": 0.6}"#, "penalty_alpha", "0.6", "contrastive"),
            (r#"{"guidance_scale": 1.5}"#, "guidance_scale", "1.5", "once for each token"),
            (
                r#"{"watermarking_config": {"bias": 2}}"#,
                "watermarking_config",
                r#"{"bias":2}"#,
                "watermark",
            ),
            (r#"{"force_words_ids": [[1]]}"#, "force_words_ids", "[[1]]", "beam search"),
            (r#"{"dola_layers": "high"}"#, "dola_layers", r#""high""#, "layers"),
            (r#"{"token_healing": true}"#, "token_healing", "true", "as they are"),
            (r#"{"max_time": 2.0}"#, "max_time", "2.0", "clock"),
            (r#"{"temprature": 0.7}"#, "temprature", "0.7", "known"),
        ];
        for (json, key, value, reason) in cases {
            let recommended = read(json, true);
            let [ignored] = recommended.ignored.as_slice() else {
                panic!("{json}: {recommended:?}")
            };
            let told = (ignored.file.as_str(), ignored.key.as_str(), ignored.value.as_str());
            assert_eq!(told, ("generation_config.json", key, value));
            assert!(ignored.reason.contains(reason), "{ignored}");
        }
        let long = format!(r#"{{"stop_strings": ["{}", ""]}}"#, "é".repeat(9999));
        assert!(read(&long, true).ignored[0].value.chars().count() <= SHOWN + 1);
    }

    #[test]
    fn what_changes_nothing_is_not_told() {
        let json = r#"{"_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2, 3],
            "pad_token_id": 0, "do_sample": false, "temperature": 1.0, "top_k": 50, "top_p": 1,
            "typical_p": 1.0, "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1.0,
            "diversity_penalty": 0.0, "length_penalty": 1.0, "early_stopping": false,
            "epsilon_cutoff": 0.0, "use_cache": true, "cache_implementation": "hybrid",
            "guidance_scale": null, "min_p": null, "suppress_tokens": [99], "bad_words_ids": [[1, 99]],
            "transformers_version": "4.51.0"}"#;
        let recommended = read(json, true);
        assert_eq!(recommended.ignored, []);
        assert_eq!(recommended.files, ["generation_config.json"]);
        assert_eq!((recommended.sequence_bias.len(), recommended.min_p), (0, None));
    }

    #[test]
    fn settings_of_both_files_are_gone_by_and_those_of_meta_yaml_first() {
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"temperature": 0.9, "repetition_penalty": 1.1, "top_k": 7}"#;
        std::fs::write(directory.path().join("generation_config.json"), config).unwrap();
        let yaml = "model_info: {parameters: {recommended_sampling: {do_sample: true, \
                    temperature: 0.6, top_k: none, top_p: '0.9', best_of: 3}}}";
        std::fs::write(directory.path().join("meta.yaml"), yaml).unwrap();
        let manifest = Manifest::read(directory.path()).unwrap().unwrap();
        let settings = Settings::read(directory.path(), Some(&manifest)).unwrap();
        let both = RecommendedSampling::from_settings(settings, 10, true);
        assert_eq!((both.do_sample, both.temperature), (Some(true), Some(0.6)));
        assert_eq!((both.repetition_penalty, both.top_k, both.top_p), (Some(1.1), Some(7), None));
        assert_eq!(both.files, ["generation_config.json", "meta.yaml"]);
        assert_eq!(keys(&both), ["top_p", "best_of"]);
        assert!(both.ignored.iter().all(|setting| setting.file == "meta.yaml"));
    }

    #[test]
    fn a_model_that_chooses_itself_keeps_what_needs_no_logits() {
        let json = r#"{"do_sample": true, "temperature": 0.6, "repetition_penalty": 1.2,
            "max_new_tokens": 5, "stop_strings": "x", "suppress_tokens": [3]}"#;
        let recommended = read(json, false);
        let expected = RecommendedSampling {
            files: vec!["generation_config.json".to_owned()],
            max_new_tokens: Some(5),
            stop_strings: vec!["x".to_owned()],
            ignored: recommended.ignored.clone(),
            ..RecommendedSampling::default()
        };
        assert_eq!(recommended, expected);
        let told = ["do_sample", "temperature", "repetition_penalty", "suppress_tokens"];
        assert_eq!(keys(&recommended), told);
        assert_eq!(read(r#"{"do_sample": false}"#, false).ignored, []);
    }
}
