//! Values of every feature type at the API, and calls that are bound once.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use candle_core::{DType, Device, Tensor};
use candle_coreml::description::ShapeMismatch;
use candle_coreml::{
    BoundCall, CoreMLModel, Error, ErrorKind, FeatureValue, Features, Image, LoadOptions, Pixels,
    ValueError,
};

const CPU: &Device = &Device::Cpu;

/// A compiled model of these statements, with parts of a description.
fn load(parameters: &str, statements: &str, inputs: &str, outputs: &str) -> CoreMLModel {
    let directory = tempfile::tempdir().unwrap();
    let program =
        format!("program(1.0) {{ func main<ios17>({parameters}) {{ {statements} }} -> (y, z); }}");
    std::fs::write(directory.path().join("model.mil"), program).unwrap();
    let metadata = format!(
        r#"[{{"specificationVersion": 8, "inputSchema": [{inputs}], "outputSchema": [{outputs}]}}]"#
    );
    std::fs::write(directory.path().join("metadata.json"), metadata).unwrap();
    CoreMLModel::load(directory.path(), &LoadOptions::new()).unwrap()
}

/// `y` is the image with red and blue doubled; `z` a copy of the numbers in half precision.
fn filter(color_space: &str) -> CoreMLModel {
    let image = |name: &str| {
        format!(
            r#"{{"name": "{name}", "type": "Image", "colorspace": "{color_space}", "width": "2",
                "height": "1", "isOptional": "0"}}"#
        )
    };
    load(
        "tensor<fp32, [1, 3, 1, 2]> picture, tensor<fp16, [2]> numbers",
        "tensor<fp32, [1, 3, 1, 1]> gain = const()[val = tensor<fp32, [1, 3, 1, 1]>([[[[2]], [[1]], [[2]]]])];
         tensor<fp32, [1, 3, 1, 2]> y = mul(x = picture, y = gain);
         tensor<fp16, [2]> z = relu(x = numbers);",
        &format!(
            r#"{}, {{"name": "numbers", "type": "MultiArray", "dataType": "Float16",
            "shape": "[2]", "isOptional": "0"}}"#,
            image("picture")
        ),
        &format!(
            r#"{}, {{"name": "z", "type": "MultiArray", "dataType": "Float16", "shape": "[2]"}}"#,
            image("y")
        ),
    )
}

fn picture() -> Image {
    Image::from_rgb(2, 1, vec![10, 20, 30, 200, 100, 0]).unwrap()
}

fn numbers() -> Tensor {
    Tensor::new(&[-1f32, 0.5], CPU).unwrap().to_dtype(DType::F16).unwrap()
}

#[test]
fn images_go_in_and_come_out_in_any_order_of_channels() {
    for color_space in ["RGB", "BGR"] {
        let inputs = Features::from([("picture", picture().into()), ("numbers", numbers().into())]);
        let outputs = filter(color_space).predict_features(&inputs, None).unwrap();
        assert_eq!(outputs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["y", "z"]);
        let image = outputs["y"].image().unwrap();
        // What is beyond a byte is cut.
        assert_eq!(*image.pixels(), Pixels::Rgb(vec![20, 20, 60, 255, 100, 0]), "{color_space}");
        assert_eq!((image.width(), image.height()), (2, 1));
        let z = outputs[1].tensor().unwrap();
        assert_eq!(z.dtype(), DType::F16);
        assert_eq!(z.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.5]);
    }
    // Whoever has an array already gives and gets arrays.
    let array = Tensor::new(&[[[[1f32, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]]], CPU).unwrap();
    let outputs = filter("RGB").predict(&[("picture", &array), ("numbers", &numbers())]).unwrap();
    let y: Vec<f32> = outputs["y"].flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(y, [2.0, 4.0, 3.0, 4.0, 10.0, 12.0]);
}

#[test]
fn values_of_another_type_are_refused() {
    let model = filter("RGB");
    let refused = |name: &str, value: FeatureValue| {
        let mut call = model.bind().unwrap();
        let index = call.input(name).unwrap();
        let error = call.set(index, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let Error::Input { name: of, source } = error else { panic!("{error:?}") };
        assert_eq!(of, name);
        source
    };
    let large = Image::from_rgb(3, 1, vec![0; 9]).unwrap();
    let size = refused("picture", large.into());
    assert!(matches!(size, ValueError::ImageSize { width: 3, height: 1, .. }), "{size}");
    assert!(size.to_string().contains("expected an image RGB 2 × 1, got one of 3 × 1 pixels"));
    let gray = Image::from_gray(2, 1, vec![0; 2]).unwrap();
    let colors = refused("picture", gray.into()).to_string();
    assert_eq!(
        colors,
        "expected RGB pixels, got gray bytes; `Image::to_color_space` converts them"
    );
    let got = |error: ValueError| match error {
        ValueError::Mismatch { got, .. } => got,
        other => panic!("{other:?}"),
    };
    assert_eq!(got(refused("picture", "cat.png".into())), "a string");
    assert_eq!(got(refused("numbers", picture().into())), "an image");
    assert_eq!(got(refused("numbers", 3.into())), "a number");
    let long = Tensor::zeros(3, DType::F16, CPU).unwrap();
    let ValueError::Shape { got, mismatch: Some(mismatch), .. } = refused("numbers", long.into())
    else {
        panic!("another error")
    };
    assert_eq!(got, [3]);
    let size = ShapeMismatch::OutOfRange { dimension: 0, size: 3, allowed: (2, Some(2)) };
    assert_eq!(*mismatch, size);

    let inputs = Features::from([("numbers", numbers().into()), ("numbers", numbers().into())]);
    let error = model.predict_features(&inputs, None).unwrap_err();
    assert!(matches!(error, Error::Input { source: ValueError::GivenTwice, .. }));
}

#[test]
fn numbers_alone_are_arrays_of_one() {
    let model = load(
        "tensor<fp32, [1]> a, tensor<int32, [1]> b",
        "tensor<fp32, [1]> y = relu(x = a); tensor<int32, [1]> z = add(x = b, y = b);",
        r#"{"name": "a", "type": "Double", "isOptional": "0"},
           {"name": "b", "type": "Int64", "isOptional": "0"}"#,
        r#"{"name": "y", "type": "Double"}, {"name": "z", "type": "Int64"}"#,
    );
    let inputs = Features::from([("a", 1.5.into()), ("b", 21.into())]);
    let outputs = model.predict_features(&inputs, None).unwrap();
    assert!(matches!(outputs["y"], FeatureValue::Double(1.5)), "{outputs:?}");
    assert!(matches!(outputs["z"], FeatureValue::Int64(42)), "{outputs:?}");
    let large = Features::from([("a", 1.5.into()), ("b", (1i64 << 40).into())]);
    let error = model.predict_features(&large, None).unwrap_err();
    assert!(matches!(error, Error::Input { source: ValueError::OutOfRange { .. }, .. }));
}

fn sums() -> CoreMLModel {
    let array = |name: &str, ty: &str| {
        format!(
            r#"{{"name": "{name}", "type": "MultiArray", "dataType": "{ty}", "shape": "[2]",
                "isOptional": "0"}}"#
        )
    };
    load(
        "tensor<fp16, [2]> a, tensor<int32, [2]> i",
        "tensor<fp16, [2]> y = add(x = a, y = a); tensor<int32, [2]> z = add(x = i, y = i);",
        &format!("{}, {}", array("a", "Float16"), array("i", "Int32")),
        &format!("{}, {}", array("y", "Float16"), array("z", "Int32")),
    )
}

/// Both outputs.
fn run(call: &mut BoundCall) -> candle_coreml::Result<([f32; 2], Vec<i64>)> {
    let (mut y, mut z) = ([0.0; 2], Vec::new());
    call.run(None, |index, output| {
        match index {
            0 => output.array()?.read_floats(0..2, &mut y)?,
            _ => z = output.array()?.integers()?,
        }
        Ok(())
    })?;
    Ok((y, z))
}

#[test]
fn a_bound_call_keeps_its_inputs_and_forgets_them_at_its_end() {
    let model = sums();
    let mut call = model.bind().unwrap();
    assert_eq!(
        (call.inputs(), call.outputs()),
        (&["a", "i"].map(String::from)[..], &["y", "z"].map(String::from)[..])
    );
    call.write_floats(0, &[2], |a| a.copy_from_slice(&[1.0, 2.0])).unwrap();
    call.write_ints(1, &[2], |i| i.copy_from_slice(&[3, 4])).unwrap();
    assert_eq!(run(&mut call).unwrap(), ([2.0, 4.0], vec![6, 8]));
    // What is written stays, also in part.
    call.write_floats(0, &[2], |a| a[1] = 5.0).unwrap();
    assert_eq!(run(&mut call).unwrap(), ([2.0, 10.0], vec![6, 8]));
    call.set(0, numbers()).unwrap();
    call.set(1, Tensor::new(&[7u8, 8], CPU).unwrap()).unwrap();
    assert_eq!(run(&mut call).unwrap(), ([-2.0, 1.0], vec![14, 16]));
    drop(call);
    let error = run(&mut model.bind().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Input { source: ValueError::Missing { .. }, .. }), "{error:?}");
}

#[test]
fn floats_are_read_as_the_type_that_they_have() {
    let mut call = sums().bind().unwrap();
    // 2049 is no half-precision number.
    call.write_floats(0, &[2], |a| a.copy_from_slice(&[1024.5, 0.1])).unwrap();
    call.write_ints(1, &[2], |i| i.fill(0)).unwrap();
    let (y, _) = run(&mut call).unwrap();
    assert_eq!(y, [2048.0, half::f16::from_f32(0.2).to_f32()]);
}

#[test]
fn wrong_indices_shapes_and_types_are_errors() {
    let mut call = sums().bind().unwrap();
    assert_eq!(call.set(2, numbers()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(call.write_floats(0, &[3], |_| ()).is_err());
    assert!(call.write_floats(1, &[2], |_| ()).is_err(), "floats for integers");
    assert!(call.write_ints(0, &[2], |_| ()).is_err(), "integers for floats");
    assert!(matches!(call.output("x").unwrap_err(), Error::Output { .. }));
    call.write_floats(0, &[2], |a| a.fill(1.0)).unwrap();
    call.write_ints(1, &[2], |i| i.fill(1)).unwrap();
    // Integers can't be read as floats, nor more elements than there are; the output is named.
    let named = |error: Error| match error {
        Error::Output { name, .. } => name,
        other => panic!("{other:?}"),
    };
    let error = call.run(None, |_, output| Ok(output.array()?.read_floats(0..2, &mut [0.0; 2])?));
    assert_eq!(named(error.unwrap_err()), "z");
    let error = call.run(None, |_, output| Ok(output.array()?.read_floats(1..3, &mut [0.0; 2])?));
    assert_eq!(named(error.unwrap_err()), "y");
    // An error of the reader's own ends the call, which can go on.
    let error = call.run(None, |_, _| Err(Error::other("enough"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(run(&mut call).unwrap(), ([2.0, 2.0], vec![2, 2]));
}

/// What fails leaves no half of a value behind.
#[test]
fn an_input_that_was_refused_has_no_value() {
    let mut call = sums().bind().unwrap();
    let missing = |call: &mut BoundCall| {
        let error = run(call).unwrap_err();
        assert!(
            matches!(error, Error::Input { source: ValueError::Missing { .. }, .. }),
            "{error}"
        );
    };
    let ids = Tensor::new(&[1i32, 2], CPU).unwrap();
    call.write_floats(0, &[2], |a| a.fill(1.0)).unwrap();
    call.set(1, &ids).unwrap();
    assert_eq!(run(&mut call).unwrap(), ([2.0, 2.0], vec![2, 4]));
    assert!(call.set(1, Tensor::new(&[1i64 << 40, 0], CPU).unwrap()).is_err());
    missing(&mut call);
    call.set(1, &ids).unwrap();
    assert!(call.write_ints(0, &[2], |a| a.fill(1)).is_err());
    missing(&mut call);
    call.write_floats(0, &[2], |a| a.fill(3.0)).unwrap();
    assert_eq!(run(&mut call).unwrap(), ([6.0, 6.0], vec![2, 4]));
    // A shape that is not the input's leaves its value alone.
    assert!(call.write_floats(0, &[3], |_| ()).is_err());
    assert_eq!(run(&mut call).unwrap(), ([6.0, 6.0], vec![2, 4]));
}

#[test]
fn an_output_goes_into_another_call() {
    let model = sums();
    let (mut first, mut second) = (model.bind().unwrap(), model.bind().unwrap());
    first.write_floats(0, &[2], |a| a.copy_from_slice(&[1.0, 2.0])).unwrap();
    first.write_ints(1, &[2], |i| i.fill(0)).unwrap();
    second.write_ints(1, &[2], |i| i.fill(0)).unwrap();
    second.write_floats(0, &[2], |a| a.fill(9.0)).unwrap();
    first
        .run(None, |index, output| match index {
            0 => second.pass(0, &[2], output, 1..2, 0),
            _ => Ok(()),
        })
        .unwrap();
    assert_eq!(run(&mut second).unwrap().0, [8.0, 18.0]);
    let error = first.run(None, |_, output| second.pass(0, &[2], output, 0..2, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
