//! The program from outside: exit codes, what goes to which stream, and files.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use candle_core::{Device, Tensor};
use common::{chat_model, copy, failure_alone as failure, root, run_with_input, stderr, stdout};
use serde_json::Value as Json;

fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.env_remove("RUST_LOG").args(arguments).envs(variables.iter().copied());
    command.output().unwrap()
}

fn path(relative: &str) -> String {
    root().join(relative).to_str().unwrap().to_owned()
}

fn embeddings() -> String {
    path("fixtures/llm/two-chunks-fp16/qwen_embeddings.mlpackage")
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["dance"],
        &["generate"],
        &["generate", "x", "--max-tokens", "many"],
        &["generate", "x", "--top-p", "2"],
        &["predict", "m.mlpackage", "--input", "x"],
        &["inspect", "m.mlpackage", "--function", "f"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(stdout(&run(&["--help"])).contains("RUST_LOG"));
}

#[test]
fn failures_have_exit_code_1_and_say_why() {
    let empty = tempfile::tempdir().unwrap();
    let directory = empty.path().to_str().unwrap();
    let chunks = path("fixtures/llm/two-chunks-fp16");
    let long = "word ".repeat(400);
    let cases: [(&[&str], &str); 10] = [
        (&["inspect", "/no/such/model.mlpackage"], "/no/such/model.mlpackage"),
        (&["inspect", directory], directory),
        (&["predict", "/no/such/model.mlmodel"], "/no/such/model.mlmodel"),
        (&["generate", "--model", directory, "x"], "no model packages"),
        (&["chat", "--model", directory], "no model packages"),
        (&["config", directory], "no model packages"),
        (&["config", "/no/such/directory"], "/no/such/directory"),
        (&["generate", "--model", &chunks, &long], "shorten"),
        (&["generate", "--model", &chunks, ""], "no tokens"),
        (&["predict", &embeddings(), "--input", "nope=1"], "no input `nope`"),
    ];
    for (arguments, expected) in cases {
        let message = failure(&run(arguments));
        assert!(message.contains(expected), "{message}");
    }
}

/// `config` shows the components, and what it writes is gone by when the model is loaded.
#[test]
fn a_written_configuration_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let copied = copy_of("fixtures/llm/gemma3", directory.path());
    let shown = stdout(&run(&["config", &copied]));
    for part in ["ffn_infer_rotate", "window 8", "position 16", "gemma3_text"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&run(&["config", &copied, "--json", "--write"]))).unwrap();
    assert_eq!(json["shapes"]["batch_size"], 8);
    let file = directory.path().join("model_config.json");
    let mut written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["components"], json["components"]);

    let arguments = ["generate", "--model", &copied, "a", "--max-tokens", "2", "--ignore-eos"];
    assert!(run(&arguments).status.success());
    written["components"]["ffn_infer"]["functions"] = serde_json::json!(["no_such"]);
    std::fs::write(&file, written.to_string()).unwrap();
    let message = failure(&run(&arguments));
    assert!(message.contains("`no_such`") && message.contains("`infer`"), "{message}");
}

fn copy_of(fixture: &str, target: &Path) -> String {
    copy(Path::new(&path(fixture)), target);
    target.to_str().unwrap().to_owned()
}

#[test]
fn the_demo_text_streams_to_standard_output_alone() {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().to_str().unwrap();
    let variables = [("XDG_CACHE_HOME", cache), ("HOME", cache)];
    let arguments = ["generate", "Once upon a time", "--max-tokens", "12", "--ignore-eos"];
    let output = run_with(&arguments, &variables);
    let text = stdout(&output);
    let timings = stderr(&output);
    assert_eq!(timings.lines().count(), 1, "{timings}");
    assert!(timings.contains("loaded in") && timings.contains("generated: 12 tokens"), "{timings}");

    let json = run_with(&[&arguments[..], &["--json"]].concat(), &variables);
    let report: Json = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(report["text"], text);
    assert_eq!(report["token_ids"].as_array().unwrap().len(), 12);
    assert_eq!(report["finish_reason"], "length");
    assert!(!report["prompt_ids"].as_array().unwrap().is_empty());
    assert!(report["timings"]["load_seconds"].is_f64());
    assert!(json.stderr.is_empty());
}

#[test]
fn a_seed_gives_the_same_text_again() {
    let model = path("fixtures/llm/window-1");
    let draw = |seed: &str| {
        let options = ["--temperature", "2", "--top-k", "50", "--max-tokens", "16", "--seed", seed];
        stdout(&run(&[&["generate", "--model", &model, "O", "--json"][..], &options].concat()))
    };
    let ids = |text: String| serde_json::from_str::<Json>(&text).unwrap()["token_ids"].clone();
    assert_eq!(ids(draw("1")), ids(draw("1")));
    assert_ne!(ids(draw("1")), ids(draw("2")));
}

#[test]
fn the_log_goes_to_standard_error() {
    let model = path("fixtures/llm/window-1");
    let arguments = ["generate", "--model", &model, "O", "--max-tokens", "2"];
    let quiet = run(&arguments);
    let logged = run_with(&arguments, &[("RUST_LOG", "candle_coreml=debug")]);
    assert_eq!(quiet.stdout, logged.stdout);
    assert!(stderr(&logged).contains("candle_coreml"), "{}", stderr(&logged));
}

fn generate_json(arguments: &[&str]) -> Json {
    let model = path("fixtures/llm/window-1");
    let common = ["generate", "--model", &model, "Once", "--json", "--max-tokens", "12"];
    let output = run(&[&common[..], arguments].concat());
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn log_probabilities_and_counts_are_in_the_json() {
    let report = generate_json(&["--logprobs", "3"]);
    let ids = report["token_ids"].as_array().unwrap();
    let logprobs = report["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), ids.len());
    for (entry, id) in logprobs.iter().zip(ids) {
        assert_eq!(entry["chosen"]["id"], *id);
        // Greedy: the chosen token is the most likely one.
        assert_eq!(entry["top"][0], entry["chosen"]);
        assert_eq!(entry["top"].as_array().unwrap().len(), 3);
        assert!(entry["chosen"]["logprob"].as_f64().unwrap() < 0.0);
    }
    assert_eq!(report["usage"]["generated_tokens"], ids.len());
    assert_eq!(report["usage"]["prompt_tokens"], report["usage"]["prefilled_tokens"]);
    assert!(report["timings"]["prompt_seconds"].is_f64());
}

#[test]
fn sampling_arguments_reach_the_model() {
    let plain = generate_json(&["--ignore-eos"]);
    let first = plain["token_ids"][0].as_u64().unwrap();
    let forbidden = generate_json(&["--ignore-eos", "--logit-bias", &format!("{first}=-inf")]);
    let ids = forbidden["token_ids"].as_array().unwrap();
    assert!(!ids.contains(&first.into()), "{first} in {ids:?}");
    // Token 0 is `!`.
    let favoured = generate_json(&["--ignore-eos", "--logit-bias", "0=1000"]);
    assert_eq!(favoured["text"], "!".repeat(12));
    let stopped = generate_json(&["--ignore-eos", "--logit-bias=0=1000", "--stop", "!!!"]);
    assert_eq!((&stopped["text"], &stopped["stop_string"]), (&"".into(), &"!!!".into()));
    assert_eq!(
        (&stopped["finish_reason"], &stopped["usage"]["generated_tokens"]),
        (&"stop".into(), &3.into())
    );
    let model = path("fixtures/llm/window-1");
    let long = ["generate", "--model", &model, "Once", "--max-tokens", "9999", "--ignore-eos"];
    let error = run(&[&long[..], &["--overflow", "error"]].concat());
    assert_eq!(error.status.code(), Some(1));
    assert!(stderr(&error).contains("context"), "{}", stderr(&error));
    let ended: Json =
        serde_json::from_str(&stdout(&run(&[&long[..], &["--json"]].concat()))).unwrap();
    assert_eq!(ended["finish_reason"], "context");
}

fn chat(arguments: &[&str], input: &str) -> Output {
    run_with_input(&[&["chat"], arguments].concat(), input.as_bytes())
}

#[test]
fn a_conversation_from_a_pipe_is_that_of_the_library() {
    let model = chat_model();
    let directory = model.path().to_str().unwrap();
    let arguments = ["--model", directory, "--system", "Be nice.", "--max-tokens", "5"];
    let greedy = ["--temperature", "0", "--speculation", "off"];
    let output = chat(&[&arguments[..], &greedy, &["-v"]].concat(), "Hello\n\n  \nAgain");
    let text = stdout(&output);

    let library = candle_coreml::QwenModel::load_from_directory(directory, None).unwrap();
    let options = candle_coreml::GenerationOptions::new().max_tokens(5).into();
    let answer = |messages: &[candle_coreml::ChatMessage]| {
        library.session().chat(messages, &options).unwrap().text
    };
    let message = |role: &str, text: &str| candle_coreml::ChatMessage::new(role, text);
    let mut messages = vec![message("system", "Be nice."), message("user", "Hello")];
    let first = answer(&messages);
    messages.extend([message("assistant", &first), message("user", "Again")]);
    let second = answer(&messages);
    let line =
        |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    assert_eq!(text, line(&first) + &line(&second));
    let notices = stderr(&output);
    assert!(
        notices.contains("generated: 5 tokens") && notices.contains("in the cache"),
        "{notices}"
    );

    // The template sees whether to think.
    let quiet = chat(&[&arguments[..], &greedy, &["--no-thinking"]].concat(), "Hello\n");
    let options = candle_coreml::ChatOptions::new(options.generation.clone()).thinking(false);
    let quiet_answer = library.session().chat(&messages[..2], &options).unwrap().text;
    assert_eq!(stdout(&quiet), line(&quiet_answer));
}

#[test]
fn the_demo_talks_and_says_what_it_is() {
    let cache = tempfile::tempdir().unwrap();
    let input = cache.path().join("input");
    std::fs::write(&input, "Hello\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.args(["chat", "--max-tokens", "8"]).stdin(std::fs::File::open(input).unwrap());
    let output = command.env("XDG_CACHE_HOME", cache.path()).env("HOME", cache.path()).output();
    let output = output.unwrap();
    assert!(!stdout(&output).is_empty());
    assert!(stderr(&output).contains("not to talk"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_answer_and_not_the_program() {
    use std::io::Read;

    let model = chat_model();
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.args(["chat", "--model", model.path().to_str().unwrap(), "--max-tokens", "100000000"]);
    // Neither end token is possible: the answer goes on until it is stopped.
    command.args(["--logit-bias=893=-inf", "--logit-bias=895=-inf"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdin.write_all(b"Hello\n").unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    // Nothing more is said, and everything is read: the program ends only when the answer has.
    drop(stdin);
    stdout.read_to_end(&mut Vec::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(stderr(&output).contains("(stopped)"), "{}", stderr(&output));
}

#[test]
fn chats_that_can_not_be_are_explained() {
    let plain = chat_model();
    std::fs::remove_file(plain.path().join("chat_template.jinja")).unwrap();
    std::fs::write(plain.path().join("tokenizer_config.json"), "{}").unwrap();
    let message = failure(&chat(&["--model", plain.path().to_str().unwrap()], "Hello\n"));
    assert!(message.contains("no chat template") && message.contains("plain text"), "{message}");
    let model = chat_model();
    std::fs::write(model.path().join("chat_template.jinja"), "{{ raise_exception('no') }}")
        .unwrap();
    let message = failure(&chat(&["--model", model.path().to_str().unwrap()], "Hello\nyou\n"));
    assert!(message.contains("does not take this conversation"), "{message}");
}

#[test]
fn predict_writes_and_shows_outputs() {
    let description: Json =
        serde_json::from_str(&stdout(&run(&["inspect", &embeddings(), "--json"]))).unwrap();
    assert_eq!(description["functions"][0]["inputs"][0]["name"], "input_ids");

    let directory = tempfile::tempdir().unwrap();
    let ids = directory.path().join("ids.npy");
    Tensor::new(&[[5i32]], &Device::Cpu).unwrap().write_npy(&ids).unwrap();
    let file = format!("input_ids={}", ids.display());
    let out = directory.path().join("out/new");
    let out = out.to_str().unwrap();
    let written = run(&["predict", &embeddings(), "--input", &file, "--output-dir", out]);
    assert!(stdout(&written).starts_with("hidden_states: float16 [1, 1, "));
    let hidden = Tensor::read_npy(Path::new(out).join("hidden_states.npy")).unwrap();
    assert_eq!(hidden.dims()[..2], [1, 1]);

    let shown = stdout(&run(&["predict", &embeddings(), "--input", "input_ids=[[5]]"]));
    assert!(shown.starts_with("hidden_states: float16 [1, 1, "), "{shown}");
    let wrong = failure(&run(&["predict", &embeddings(), "--input", "input_ids=[1,2,3]"]));
    assert!(wrong.contains("input `input_ids`"), "{wrong}");
    failure(&run(&["predict", &embeddings()]));
}

#[test]
fn inspect_shows_functions_operations_and_weights() {
    let chunk = path("fixtures/llm/two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage");
    let text = stdout(&run(&["inspect", &chunk]));
    for expected in ["Function infer", "Function prefill", "causal_mask", "state", "conv", "fp16"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("not supported"), "{text}");
    let json: Json = serde_json::from_str(&stdout(&run(&["inspect", &chunk, "--json"]))).unwrap();
    assert_eq!(json["model_kind"], "mlProgram");
    assert_eq!(json["functions"].as_array().unwrap().len(), 2);
    assert_eq!(json["opsets"]["infer"], "ios18");
    let operations = json["operations"].as_array().unwrap();
    assert!(
        operations.iter().any(|entry| entry["operator"] == "conv" && entry["supported"] == true)
    );
    assert!(json["weights"][0]["bytes"].as_u64().unwrap() > 0);
}

fn chunk() -> String {
    path("fixtures/llm/two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage")
}

#[test]
fn inspect_shows_the_plan_of_a_function() {
    let text = stdout(&run(&["inspect", &chunk(), "--plan"]));
    for expected in
        ["function infer", "view of", "attention(", "arena: ", "rewrite norm of both signs"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // The engine's own tests hold plans against texts that were looked at.
    let kept = root().join("crates/coreml-engine/tests/plans/qwen-infer.txt");
    assert_eq!(text, std::fs::read_to_string(kept).unwrap());

    let arguments = ["inspect", &chunk(), "--plan", "--function", "prefill"];
    let other = stdout(&run(&arguments));
    assert!(other.starts_with("function prefill\n"), "{other}");
    let json: Json =
        serde_json::from_str(&stdout(&run(&[&arguments[..], &["--json"]].concat()))).unwrap();
    assert_eq!(json["function"], "prefill");
    assert_eq!(json["plan"], Json::from_iter(other.lines()));
    let message = failure(&run(&["inspect", &chunk(), "--plan", "--function", "main"]));
    assert!(message.contains("`main`") && message.contains("`infer` and `prefill`"), "{message}");
}

#[test]
fn a_plan_needs_no_weights_where_it_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let whole = "fixtures/llm/two-chunks-fp16/qwen_FFN_PF_chunk_01of02.mlpackage";
    let model = copy_of(whole, &directory.path().join("model.mlpackage"));
    std::fs::remove_dir_all(Path::new(&model).join("Data/com.apple.CoreML/weights")).unwrap();
    let message = failure(&run(&["inspect", &model, "--plan"]));
    assert!(message.contains("weight.bin"), "{message}");
    let text = stdout(&run(&["inspect", &model, "--plan", "--without-weights"]));
    assert_eq!(text, stdout(&run(&["inspect", &chunk(), "--plan"])));
}

/// A compiled model of an iOS 17 function.
fn compiled_model(function: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().suffix(".mlmodelc").tempdir().unwrap();
    let program = format!("program(1.0) {{ func main<ios17>{function} }}");
    std::fs::write(directory.path().join("model.mil"), program).unwrap();
    let interface = r#"[{"specificationVersion": 8, "inputSchema": [], "outputSchema": []}]"#;
    std::fs::write(directory.path().join("metadata.json"), interface).unwrap();
    directory
}

#[test]
fn a_model_without_default_shapes_has_no_plan_to_show() {
    let model =
        compiled_model("(tensor<fp32, [?, 3]> x) { tensor<fp32, [?, 3]> y = exp(x = x); } -> (y);");
    let message = failure(&run(&["inspect", model.path().to_str().unwrap(), "--plan"]));
    assert!(message.contains("`main`") && message.contains("no shapes to plan for"), "{message}");
}

/// A field of a protobuf message, shorter than 128 bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let key = number << 3 | 2;
    let key = if key < 128 { vec![key as u8] } else { vec![key as u8 | 128, (key >> 7) as u8] };
    [key, vec![content.len() as u8], content.to_vec()].concat()
}

#[test]
fn inspect_tells_what_is_inside_of_other_kinds_and_that_they_do_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pets.mlmodel");
    let layer = field(1, &[field(1, b"first"), field(100, b"")].concat());
    let labels = field(100, &[field(1, b"cat"), field(1, b"dog")].concat());
    let network = [vec![8, 4], field(403, &[layer, labels].concat())].concat();
    let model = file.to_str().unwrap();
    std::fs::write(&file, &network).unwrap();
    let text = stdout(&run(&["inspect", model]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("neural network classifier in a model file"), "{text}");
    assert!(
        lines[2].starts_with("Does not run here: ") && lines[2].contains("mlprogram"),
        "{text}"
    );
    assert!(text.contains("1  convolution") && text.contains("2 classes: cat, dog"), "{text}");
    let json: Json = serde_json::from_str(&stdout(&run(&["inspect", model, "--json"]))).unwrap();
    assert_eq!(
        (&json["runs"], &json["model_kind"]),
        (&false.into(), &"neuralNetworkClassifier".into())
    );
    assert!(json["reason"].as_str().unwrap().contains("neural network classifier"), "{json}");
    assert_eq!(json["labels"][1], "dog");
    assert_eq!(json["layers"][0]["kind"], "convolution");

    let pipeline = [field(1, &network), field(2, b"tell")].concat();
    std::fs::write(&file, [vec![8, 4], field(202, &pipeline)].concat()).unwrap();
    let text = stdout(&run(&["inspect", model]));
    let stage = "  tell: neural network classifier, 1 layer; 2 classes: cat, dog";
    assert!(text.lines().any(|line| line == stage), "{text}");
    let message = failure(&run(&["predict", model]));
    assert!(message.contains("is a pipeline") && !message.contains("convert"), "{message}");
}

#[test]
fn inspect_tells_what_is_not_computed_and_what_else_is() {
    let model = compiled_model(
        "(tensor<fp32, [2, 3]> x) {
            tensor<int32, [2, 3]> i = argsort(axis = int32(-1), ascending = bool(false), x = x);
            tensor<fp32, [2, 3]> y = slice_update(begin = tensor<int32, [2]>([0, 0]),
                end = tensor<int32, [2]>([2, 3]), update = x, x = x);
        } -> (y);",
    );
    let model = model.path().to_str().unwrap();
    let text = stdout(&run(&["inspect", model]));
    assert!(text.lines().nth(2).unwrap().starts_with("Does not run here: "), "{text}");
    let operations = text.split_once("Operations").unwrap().1;
    let line = |operator: &str| operations.lines().find(|line| line.contains(operator)).unwrap();
    let words: Vec<&str> = line("argsort").split_whitespace().collect();
    assert_eq!(words, ["1", "argsort"], "{text}");
    assert!(line("slice_update").contains("not supported; coremltools knows no such"), "{text}");
    let json: Json = serde_json::from_str(&stdout(&run(&["inspect", model, "--json"]))).unwrap();
    let entry = |operator: &str| {
        let entries = json["operations"].as_array().unwrap();
        entries.iter().find(|entry| entry["operator"] == operator).unwrap().clone()
    };
    assert_eq!(
        (&entry("argsort")["supported"], &entry("argsort")["hint"]),
        (&true.into(), &Json::Null)
    );
    assert!(entry("slice_update")["hint"].as_str().unwrap().contains("no such operator"), "{json}");
}

#[test]
fn the_number_of_threads_changes_nothing_but_speed() {
    let predict = |threads: &[&str], variables: &[(&str, &str)]| {
        let arguments = ["predict", &embeddings(), "--input", "input_ids=[[5]]"];
        stdout(&run_with(&[&arguments[..], threads].concat(), variables))
    };
    let expected = predict(&["--threads", "1"], &[]);
    assert_eq!(predict(&["--threads", "3"], &[]), expected);
    assert_eq!(predict(&[], &[("CANDLE_COREML_THREADS", "2")]), expected);
    // What is given goes before what the environment says, whatever that is.
    assert_eq!(predict(&["--threads", "2"], &[("CANDLE_COREML_THREADS", "many")]), expected);

    let one = generate_json(&["--threads", "1"]);
    assert_eq!(generate_json(&["--threads", "3"])["token_ids"], one["token_ids"]);
}

#[test]
fn a_wrong_number_of_threads_is_explained() {
    let model = path("fixtures/llm/window-1");
    let commands: [&[&str]; 3] = [
        &["predict", &embeddings(), "--input", "input_ids=0"],
        &["generate", "--model", &model, "Once"],
        &["chat", "--model", &model],
    ];
    for command in commands {
        for threads in ["0", "some", "-1", "1.5"] {
            let output = run(&[command, &["--threads", threads]].concat());
            assert_eq!(output.status.code(), Some(2), "{threads}");
            let message = stderr(&output);
            assert!(message.contains("--threads"), "{message}");
            assert!(message.contains("expected a whole number above 0"), "{message}");
            // From the environment.
            let variables = [("CANDLE_COREML_THREADS", threads)];
            let message = failure(&run_with(command, &variables));
            assert!(message.contains("CANDLE_COREML_THREADS"), "{message}");
            assert!(message.contains(threads), "{message}");
        }
    }
}

/// The threads of a running program that belong to pools of models.
#[cfg(target_os = "linux")]
fn pool_threads(process: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    names.filter(|name| name.starts_with("coreml-kernels")).count()
}

#[cfg(target_os = "linux")]
#[test]
fn all_packages_of_a_language_model_share_their_threads() {
    use std::io::Read;

    let model = chat_model();
    let mut command = Command::new(env!("CARGO_BIN_EXE_candle-coreml"));
    command.args(["chat", "--model", model.path().to_str().unwrap(), "--threads", "3"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_ref().unwrap().write_all(b"Hello\n").unwrap();
    // Once it answers, it has loaded everything; it ends when its input does.
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    // The third is the program's own.
    assert_eq!(pool_threads(child.id()), 2);
    assert!(child.wait_with_output().unwrap().status.success());
}
