//! Components among made-up packages.

use coreml_format::description::{
    ArrayElementType, FeatureDescription, FeatureType, MultiArrayType,
};

use super::*;

fn feature(name: &str, shape: &[usize]) -> FeatureDescription {
    let array = MultiArrayType::new(ArrayElementType::Float16, shape);
    FeatureDescription::new(name, FeatureType::MultiArray(array))
}

fn function(name: &str, inputs: &[(&str, usize)], outputs: &[&str]) -> FunctionDescription {
    let input = |&(name, rows): &(&str, usize)| match name {
        "causal_mask" | "causalMask" => feature(name, &[1, 1, rows, 64]),
        _ => feature(name, &[1, rows, 8]),
    };
    let mut function = FunctionDescription::new(name);
    function.inputs = inputs.iter().map(input).collect();
    function.outputs = outputs.iter().map(|name| feature(name, &[1, 1, 8])).collect();
    function
}

fn layers(name: &str, rows: usize) -> FunctionDescription {
    let inputs = [("hidden_states", rows), ("causal_mask", rows)];
    function(name, &inputs, &["output_hidden_states"])
}

fn both() -> Vec<FunctionDescription> {
    vec![layers("infer", 1), layers("prefill", 16)]
}

fn package(stem: &str, functions: Vec<FunctionDescription>) -> FoundPackage {
    FoundPackage { stem: stem.to_owned(), path: PathBuf::from(stem), functions: Ok(functions) }
}

fn embeddings(stem: &str) -> FoundPackage {
    package(stem, vec![function("main", &[("input_ids", 16)], &["hidden_states"])])
}

fn head(stem: &str) -> FoundPackage {
    package(stem, vec![function("main", &[("hidden_states", 1)], &["logits1", "logits2"])])
}

fn find(packages: &[FoundPackage], manifest: Option<&Manifest>) -> Result<Vec<String>> {
    let found = components(Path::new("directory"), packages, manifest)?;
    let name = |c: &Component| format!("{}/{}", c.path.display(), c.function.name);
    let mut names: Vec<String> = found.embeddings.iter().map(name).collect();
    for chunk in &found.chunks {
        let functions = [Some(&chunk.infer), chunk.prefill.as_ref(), chunk.infer_rotate.as_ref()];
        names.extend(functions.into_iter().flatten().map(name));
    }
    names.extend(found.lm_head.iter().map(name));
    Ok(names)
}

#[test]
fn interfaces_tell_the_components_whatever_their_names() {
    let packages = [head("a"), package("b", both()), embeddings("c")];
    assert_eq!(find(&packages, None).unwrap(), ["c/main", "b/infer", "b/prefill", "a/main"]);
}

#[test]
fn chunks_run_in_the_order_of_their_numbers() {
    let packages = [
        package("q_FFN_PF_chunk_02of02", both()),
        package("q_FFN_PF_chunk_01of02", both()),
        embeddings("q_embeddings"),
        head("q_lm_head"),
    ];
    let found = find(&packages, None).unwrap();
    assert_eq!(found[1], "q_FFN_PF_chunk_01of02/infer");
    assert_eq!(found[3], "q_FFN_PF_chunk_02of02/infer");
}

#[test]
fn functions_in_packages_of_their_own_are_told_by_their_window_and_name() {
    let packages = [
        package("g_FFN_chunk_01of01", vec![layers("main", 1)]),
        package("g_FFN_rotate_chunk_01of01", vec![layers("main", 1)]),
        package("g_prefill_chunk_01of01", vec![layers("main", 16)]),
        package("g_prefill_rotate_chunk_01of01", vec![layers("main", 16)]),
        embeddings("g_embeddings"),
        head("g_lm_head"),
    ];
    let found = find(&packages, None).unwrap();
    let names = ["g_FFN_chunk_01of01", "g_prefill_chunk_01of01", "g_FFN_rotate_chunk_01of01"];
    assert_eq!(found[1..4], names.map(|name| format!("{name}/main")));
}

#[test]
fn a_prefill_of_one_token_is_not_taken_for_infer() {
    let packages = [
        package("q_FFN_PF", vec![layers("prefill", 1), layers("infer", 1)]),
        embeddings("q_embeddings"),
        head("q_lm_head"),
    ];
    assert_eq!(find(&packages, None).unwrap()[1], "q_FFN_PF/infer");
}

#[test]
fn rotating_functions_may_lie_in_a_second_file() {
    let rotating = vec![layers("infer_rotate", 1), layers("prefill_rotate", 16)];
    let packages = [
        package("g_FFN_PF_chunk_01of01", both()),
        package("g_FFN_PF_chunk_01of01_rot", rotating),
        embeddings("g_embeddings"),
        head("g_lm_head"),
    ];
    let manifest = Manifest {
        ffn: Some("g_FFN_PF_chunk_01of01.mlmodelc".to_owned()),
        rotating: Some("g_FFN_PF_chunk_01of01_rot.mlmodelc".to_owned()),
        ..Manifest::default()
    };
    let expected = "g_FFN_PF_chunk_01of01_rot/infer_rotate";
    assert_eq!(find(&packages, Some(&manifest)).unwrap()[3], expected);
    assert_eq!(find(&packages, None).unwrap()[3], expected);
}

#[test]
fn a_second_file_may_come_in_chunks() {
    let rotating = || vec![layers("infer_rotate", 1), layers("prefill_rotate", 16)];
    let packages = [
        package("g_FFN_PF_chunk_01of02", both()),
        package("g_FFN_PF_chunk_01of02_rot", rotating()),
        package("g_FFN_PF_chunk_02of02", both()),
        package("g_FFN_PF_chunk_02of02_rot", rotating()),
        embeddings("g_embeddings"),
        head("g_lm_head"),
    ];
    let found = find(&packages, None).unwrap();
    assert_eq!(found[3], "g_FFN_PF_chunk_01of02_rot/infer_rotate");
    assert_eq!(found[6], "g_FFN_PF_chunk_02of02_rot/infer_rotate");
}

#[test]
fn whole_models_need_no_other_package() {
    let whole = |ids, mask| function("main", &[(ids, 1), (mask, 1)], &["logits"]);
    for (ids, mask) in [("input_ids", "causal_mask"), ("inputIds", "causalMask")] {
        let packages = [package("model", vec![whole(ids, mask)])];
        assert_eq!(find(&packages, None).unwrap(), ["model/main"]);
    }
    let both_kinds = [
        package("q_monolithic_full", vec![whole("input_ids", "causal_mask")]),
        package("q_FFN_PF", both()),
        embeddings("q_embeddings"),
        head("q_lm_head"),
    ];
    assert_eq!(find(&both_kinds, None).unwrap()[1], "q_FFN_PF/infer");
    let manifest = Manifest { monolithic: true, ..Manifest::default() };
    assert_eq!(find(&both_kinds, Some(&manifest)).unwrap(), ["q_monolithic_full/main"]);
}

#[test]
fn the_manifest_chooses_among_variants_whatever_their_ending() {
    let packages = [
        package("q_FFN_PF_lut4_chunk_01of01", both()),
        package("q_FFN_PF_lut6_chunk_01of02", both()),
        package("q_FFN_PF_lut6_chunk_02of02", both()),
        embeddings("q_embeddings"),
        head("q_lm_head"),
        head("q_lm_head_lut6"),
    ];
    for ffn in ["q_FFN_PF_lut6.mlmodelc", "q_FFN_PF_lut6_chunk_01of02.mlmodelc"] {
        let manifest = Manifest {
            ffn: Some(ffn.to_owned()),
            lm_head: Some("q_lm_head_lut6.mlmodelc".to_owned()),
            num_chunks: Some(2),
            ..Manifest::default()
        };
        let found = find(&packages, Some(&manifest)).unwrap();
        assert_eq!(found[1], "q_FFN_PF_lut6_chunk_01of02/infer");
        assert_eq!(found.last().unwrap(), "q_lm_head_lut6/main");
    }
    let message = find(&packages, None).unwrap_err().to_string();
    assert!(message.contains("several FFN packages") && message.contains("lut4"), "{message}");
}

#[test]
fn the_combined_package_is_meant_where_its_sources_still_lie_about() {
    let packages = [
        package("t_FFN_PF_lut4_chunk_01of01", both()),
        package("t_FFN_lut4_chunk_01of01", vec![layers("main", 1)]),
        package("t_prefill_lut4_chunk_01of01", vec![layers("main", 16)]),
        embeddings("t_embeddings"),
        head("t_lm_head_lut6"),
    ];
    let found = find(&packages, None).unwrap();
    let combined = ["infer", "prefill"].map(|f| format!("t_FFN_PF_lut4_chunk_01of01/{f}"));
    assert_eq!(found[1..3], combined);
}

#[test]
fn what_is_missing_is_named() {
    let chunk = || package("q_FFN_PF", both());
    let cases: [(Vec<FoundPackage>, &str); 5] = [
        (vec![], "no model packages"),
        (vec![embeddings("q_embeddings"), head("q_lm_head")], "no FFN package"),
        (vec![chunk(), head("q_lm_head")], "no embeddings package"),
        (vec![chunk(), embeddings("q_embeddings")], "no LM head package"),
        (
            vec![
                embeddings("q_embeddings"),
                package("q_FFN_PF_chunk_01of02", both()),
                head("q_lm_head"),
            ],
            "`q_FFN_PF_chunk_02of02` is missing",
        ),
    ];
    for (packages, expected) in cases {
        let message = find(&packages, None).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn packages_of_no_known_kind_are_told() {
    let vision = package("vision", vec![function("main", &[("image", 1)], &["features"])]);
    let packages =
        [package("q_FFN_PF", both()), embeddings("q_embeddings"), head("q_lm_head"), vision];
    let found = components(Path::new("directory"), &packages, None).unwrap();
    assert!(found.findings.iter().any(|finding| finding.contains("`vision`")));
}
