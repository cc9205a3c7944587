//! Messages laid out by hand with the field numbers of `Model.proto` and `NeuralNetwork.proto`.

use super::*;

/// A field of bytes: key, length, content.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut varint in [u64::from(number) << 3 | 2, content.len() as u64] {
        while varint >= 0x80 {
            bytes.push(varint as u8 | 0x80);
            varint >>= 7;
        }
        bytes.push(varint as u8);
    }
    bytes.extend(content);
    bytes
}

/// A model of version 4 with this body.
fn model(number: u32, body: &[u8]) -> Vec<u8> {
    [vec![8, 4], field(number, body)].concat()
}

fn decode(number: u32, body: &[u8]) -> Model {
    Model::decode(&model(number, body)).unwrap()
}

fn strings(labels: &[&str]) -> Vec<u8> {
    labels.iter().flat_map(|label| field(1, label.as_bytes())).collect()
}

#[test]
fn layers_of_neural_networks() {
    let layer = |name: &[u8], kind: u32| {
        let weights = field(kind, &field(90, &[0; 100]));
        [field(1, name), field(2, b"x"), field(3, b"y"), field(3, b"z"), weights].concat()
    };
    let layers = [(b"one".as_slice(), 100), (b"two", 140), (b"three", 99_999)];
    let layers = layers.map(|(name, kind)| field(1, &layer(name, kind))).concat();
    let classifier = [layers, field(100, &strings(&["cat", "dog"]))].concat();
    let model = decode(403, &classifier);
    assert_eq!(model.kind_in_words().to_string(), "neural network classifier");
    let Body::NeuralNetwork(network) = model.body else { panic!("{model:?}") };
    let kinds: Vec<_> = network.layers.iter().map(|l| (l.name.as_str(), l.kind)).collect();
    assert_eq!(kinds, [("one", "convolution"), ("two", "innerProduct"), ("three", "unknown")]);
    assert_eq!(network.layers[0].inputs, ["x"]);
    assert_eq!(network.layers[0].outputs, ["y", "z"]);
    let labels = ClassLabels::Strings(vec!["cat".into(), "dog".into()]);
    assert_eq!(network.labels, Some(labels));
}

#[test]
fn stages_of_pipelines() {
    // Numbers of a vector are packed, or one by one as old writers have them.
    let packed = [field(1, &[1, 2, 0xac, 2]), vec![8, 7]].concat();
    let trees = model(402, &field(101, &packed));
    let inner = model(202, &[field(1, &trees), field(2, b"trees")].concat());
    let outer = [field(1, &inner), field(1, &model(900, b"")), field(2, b"first")].concat();
    let model = decode(200, &field(1, &outer));
    assert_eq!(model.kind, "pipelineClassifier");
    let Body::Pipeline(stages) = &model.body else { panic!("{model:?}") };
    assert_eq!(stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["first", ""]);
    assert_eq!(stages[1].model.kind, "identity");
    let Body::Pipeline(nested) = &stages[0].model.body else { panic!("{model:?}") };
    assert_eq!(nested[0].name, "trees");
    let labels = ClassLabels::Int64(vec![1, 2, 300, 7]);
    assert_eq!(nested[0].model.body, Body::Other(Some(labels)));
}

#[test]
fn pipelines_that_are_nested_too_deep_are_refused() {
    let nested =
        |levels: usize| (0..levels).fold(Vec::new(), |body, _| field(1, &model(202, &body)));
    assert!(Model::decode(&model(202, &nested(MOST_NESTED - 1))).is_ok());
    let error = Model::decode(&model(202, &nested(MOST_NESTED))).unwrap_err().to_string();
    assert!(error.contains("nested more than 8 deep"), "{error}");
}

#[test]
fn bodies_cut_short_are_refused() {
    let layer = field(1, &[field(1, b"name"), field(100, &[1; 20])].concat());
    for body in [field(1, &layer), field(100, &field(1, b"label"))] {
        for length in 1..body.len() {
            let cut = Model::decode(&model(403, &body[..length]));
            // What is cut where a field ends is a shorter message.
            let whole = crate::proto::wire::fields(&body[..length]).all(|field| field.is_ok());
            assert_eq!(cut.is_ok(), whole, "{length} of {body:?}");
        }
    }
}

#[test]
fn kinds_in_words() {
    let words = |number| decode(number, b"").kind_in_words().to_string();
    assert_eq!(words(500), "neural network");
    assert_eq!(words(302), "tree ensemble regressor");
    assert_eq!(words(400), "GLM classifier");
    assert_eq!(words(404), "k nearest neighbors classifier");
    assert_eq!(
        Model::decode(&[8, 4]).unwrap().kind_in_words().to_string(),
        "model of an unknown kind"
    );
}

/// Two bytes of a file a layer, or a name, are no reason for any amount of memory.
#[test]
fn networks_of_too_many_layers_or_names_are_refused() {
    let most = 1 << 17;
    let layers = |count: usize| model(500, &[10u8, 0].repeat(count));
    assert!(Model::decode(&layers(most)).is_ok());
    let error = Model::decode(&layers(most + 1)).unwrap_err().to_string();
    assert!(error.contains("layers: expected at most 131072"), "{error}");
    let names = |count: usize| model(500, &field(1, &[18u8, 0].repeat(count)));
    assert!(Model::decode(&names(1 << 19)).is_ok());
    let error = Model::decode(&names((1 << 19) + 1)).unwrap_err().to_string();
    assert!(error.contains("inputs and outputs: expected at most 524288"), "{error}");
}

#[test]
fn a_file_that_tells_neither_version_nor_kind_is_no_model() {
    let error = Model::decode(&[]).unwrap_err().to_string();
    assert!(error.contains("specification version: the file gives none"), "{error}");
}
