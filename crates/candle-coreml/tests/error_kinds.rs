//! Errors as programs see them: a kind to act on, a type to match on, and a chain of sources that ends
//! at the cause.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::error::Error as _;
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_coreml::{
    BackendKind, CoreMLModel, EngineError, Error, ErrorKind, FormatError, KernelError, LoadOptions,
    OpError, Package, ValueError, Workers, mil,
};

/// A model from the statements of a function of `x`, a vector of any length.
fn load(statements: &str) -> candle_coreml::Result<CoreMLModel> {
    let program = mil::from_text(&format!(
        "program(1.0) {{ func main<ios17>(tensor<fp32, [?]> x, tensor<int32, [1]> i) \
         {{ {statements} }} -> (y); }}"
    ))?;
    CoreMLModel::from_package(Package::from_program(program)?, &LoadOptions::new())
}

fn predict(model: &CoreMLModel, length: usize, index: i64) -> candle_coreml::Result<()> {
    let x = Tensor::zeros(length, candle_core::DType::F32, &Device::Cpu)?;
    let i = Tensor::new(&[index], &Device::Cpu)?;
    model.predict(&[("x", &x), ("i", &i)]).map(|_| ())
}

/// The last error of the chain of sources.
fn cause(error: &Error) -> &(dyn std::error::Error + 'static) {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last
}

fn file(text: &str, name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn inputs_that_do_not_fit_are_invalid() {
    let model = load("tensor<fp32, [?]> y = relu(x = x);").unwrap();
    let x = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let i = Tensor::new(&[0i64], &Device::Cpu).unwrap();
    let float = Tensor::new(&[0f32], &Device::Cpu).unwrap();
    let large = Tensor::new(&[1i64 << 40], &Device::Cpu).unwrap();
    type Wanted = fn(&ValueError) -> bool;
    let cases: [(&[(&str, &Tensor)], Wanted); 6] = [
        (&[("x", &x)], |e| matches!(e, ValueError::Missing { .. })),
        (
            &[("x", &x), ("i", &i), ("j", &i)],
            |e| matches!(e, ValueError::Unknown { available, .. } if available == &["x", "i"]),
        ),
        (&[("x", &x), ("i", &i), ("i", &i)], |e| matches!(e, ValueError::GivenTwice)),
        (&[("x", &x), ("i", &x)], |e| matches!(e, ValueError::Shape { .. })),
        (&[("x", &x), ("i", &float)], |e| matches!(e, ValueError::Dtype { .. })),
        (&[("x", &x), ("i", &large)], |e| matches!(e, ValueError::OutOfRange { .. })),
    ];
    for (number, (inputs, wanted)) in cases.into_iter().enumerate() {
        let error = model.predict(inputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
        assert!(
            matches!(&error, Error::Input { source, .. } if wanted(source)),
            "{number}: {error:?}"
        );
        assert!(cause(&error).is::<ValueError>(), "{number}");
    }
    let many = LoadOptions::new().threads(0).unwrap_err();
    assert_eq!(many.kind(), ErrorKind::InvalidInput);
    assert!(matches!(many, Error::Threads { source: KernelError::Value { .. } }));
    let many = Error::from(Workers::new(usize::MAX).unwrap_err());
    assert_eq!(many.kind(), ErrorKind::InvalidInput);
}

/// The same failure is the caller's fault where its inputs bring it about, and the model's where
/// nothing could help.
#[test]
fn an_operation_fails_on_inputs_or_always() {
    let model = load(
        "tensor<fp32, [1]> y = gather(x = x, indices = i, axis = int32(0), \
                      validate_indices = bool(true));",
    );
    let model = model.unwrap();
    predict(&model, 3, 2).unwrap();
    let error = predict(&model, 3, 7).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(matches!(&error, Error::Engine(EngineError::Run(at)) if at.operator == "gather"));
    assert!(cause(&error).is::<OpError>(), "{error:?}");

    let program = "program(1.0) { func main<ios17>(tensor<fp32, [2]> x) {
        tensor<fp32, [2]> y = transpose(x = x, perm = tensor<int32, [2]>([1, 0])); } -> (y); }";
    let package = Package::from_program(mil::from_text(program).unwrap()).unwrap();
    let error = CoreMLModel::from_package(package, &LoadOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenModel, "{error}");
    assert!(matches!(&error, Error::Engine(EngineError::Operation(_))), "{error:?}");
    assert!(cause(&error).is::<OpError>(), "{error:?}");
}

#[test]
fn what_is_named_may_not_be_there() {
    let error = CoreMLModel::load("no/such.mlpackage", &LoadOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(matches!(&error, Error::Format(FormatError::Io { .. })));
    assert!(cause(&error).is::<std::io::Error>());

    let model = load("tensor<fp32, [?]> y = relu(x = x);").unwrap();
    let error = model.function("train").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(matches!(error, Error::UnknownFunction { name, .. } if name == "train"));
}

#[test]
fn sound_models_may_be_beyond_the_backend() {
    let error = load("tensor<fp32, [?]> y = fancy_new_thing(x = x);").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(matches!(
        error,
        Error::Engine(EngineError::UnsupportedOperation { operator, .. }) if operator == "fancy_new_thing"
    ));
    let model = common::fixtures().join("packages/write_state_functions_ios18.mlpackage");
    let apple = LoadOptions::new().backend(BackendKind::Apple);
    let error = CoreMLModel::load(model, &apple).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn damaged_files_are_broken_models() {
    for (name, content) in [("model.mlmodel", "\u{1}nonsense"), ("Manifest.json", "{")] {
        let (directory, path) = file(content, name);
        let path = if name == "Manifest.json" { directory.path() } else { &path };
        let error = CoreMLModel::load(path, &LoadOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenModel, "{error}");
        assert!(matches!(&error, Error::Format(_)), "{error:?}");
        assert!(!cause(&error).is::<Error>(), "{error:?}");
    }
}

#[test]
fn memory_has_an_end() {
    let model = load("tensor<fp32, [?]> y = tile(x = x, reps = i);").unwrap();
    predict(&model, 2, 3).unwrap();
    let error = predict(&model, 1 << 12, (1 << 31) - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}

#[test]
fn errors_of_ones_own_pass_through() {
    let error = Error::other(std::io::Error::other("mine"));
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(matches!(&error, Error::Other(own) if own.is::<std::io::Error>()));
    assert_eq!(error.to_string(), "mine");
}

#[cfg(feature = "llm")]
mod language_models {
    use candle_coreml::config::ModelConfig;
    use candle_coreml::{
        ChatMessage, ChatOptions, ChatTemplate, GenerationError, GenerationOptions, LanguageModel,
    };

    use super::*;

    fn demo() -> LanguageModel {
        let fixture = common::fixtures().join("llm/qwen3-static-prefill");
        LanguageModel::load(&fixture)
            .unwrap_or_else(|error| panic!("{}: {error}", fixture.display()))
    }

    fn generation(error: candle_coreml::Result<impl Sized>) -> (ErrorKind, GenerationError) {
        match error {
            Err(Error::Generation(error)) => (error.kind(), error),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("no error"),
        }
    }

    #[test]
    fn requests_are_refused_by_kind() {
        let model = demo();
        let options = GenerationOptions::new();
        let (kind, error) = generation(model.session().stream_ids(&[], &options));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(matches!(error, GenerationError::EmptyPrompt { .. }));
        let (kind, error) = generation(model.session().stream_ids(&[u32::MAX], &options));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(matches!(error, GenerationError::UnknownToken { id: u32::MAX, .. }));
        let (kind, error) =
            generation(model.session().generate("a", &options.clone().temperature(-1.0)));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(matches!(error, GenerationError::Option { .. }));
        let long = vec![1; model.context_length() + 1];
        let (kind, error) = generation(model.session().stream_ids(&long, &options));
        assert_eq!(kind, ErrorKind::Limit);
        assert!(matches!(error, GenerationError::PromptTooLong { .. }));
    }

    #[test]
    fn templates_fail_by_fault_of_model_or_conversation() {
        let (kind, error) = generation(ChatTemplate::new("{% if %}", None, None));
        assert_eq!(kind, ErrorKind::BrokenModel);
        assert!(error.source().is_some());
        let picky = ChatTemplate::new("{{ raise_exception('no') }}", None, None).unwrap();
        let messages = [ChatMessage::user("hello")];
        let (kind, error) =
            generation(picky.render(&messages, &ChatOptions::new(GenerationOptions::new())));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(matches!(error, GenerationError::Conversation { .. }));
        assert!(error.source().is_some());
    }

    #[test]
    fn packages_keep_the_parsers_error() {
        let (directory, _) = file("{", "Manifest.json");
        let error = CoreMLModel::load(directory.path(), &LoadOptions::new()).unwrap_err();
        assert!(cause(&error).is::<serde_json::Error>(), "{error:?}");
    }

    #[test]
    fn directories_keep_the_parsers_error() {
        let (_directory, path) = file("{", "config.json");
        let error = ModelConfig::load_from_file(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenModel);
        assert!(cause(&error).is::<serde_json::Error>(), "{error:?}");
        let error = ModelConfig::load_from_file(Path::new("no/such/file")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(cause(&error).is::<std::io::Error>());
    }
}
