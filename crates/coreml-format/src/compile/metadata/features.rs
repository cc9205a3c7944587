//! Features as `metadata.json` has them: sizes as texts, flags as `"0"` and `"1"`.

use serde_json::Value;

use super::Object;
use crate::description::{
    ColorSpace, FeatureDescription, FeatureType, ImageFlexibility, ImageType, MultiArrayType,
    ShapeFlexibility, range_text,
};

/// What stands between the sizes of a shape.
const TIMES: &str = " × ";

/// What stands between shapes of which one is chosen.
const OR: &str = " | ";

pub(super) fn schemas(features: &[FeatureDescription]) -> Value {
    features.iter().map(|feature| Value::Object(schema(feature))).collect()
}

fn schema(feature: &FeatureDescription) -> Object {
    let mut schema = Object::new();
    set(&mut schema, "name", &feature.name);
    set(&mut schema, "shortDescription", &feature.short_description);
    set(&mut schema, "isOptional", flag(feature.optional));
    match &feature.ty {
        FeatureType::MultiArray(array) => multi_array(&mut schema, array),
        FeatureType::State(array) => typed(&mut schema, "State", array_text(array), array),
        FeatureType::Image(image) => self::image(&mut schema, image),
        FeatureType::Dictionary(key) => {
            set(&mut schema, "keyType", key.to_string());
            kind(&mut schema, "Dictionary", format!("({key} → Double)"));
        }
        FeatureType::Sequence(sequence) => {
            set(&mut schema, "dataType", sequence.element.to_string());
            kind(&mut schema, "Sequence", format!("({})", sequence.element));
        }
        FeatureType::String => kind(&mut schema, "String", String::new()),
        FeatureType::Int64 => kind(&mut schema, "Int64", String::new()),
        FeatureType::Double => kind(&mut schema, "Double", String::new()),
    }
    schema
}

/// The type's name, alone and with what it is made of.
fn kind(schema: &mut Object, name: &str, made_of: String) {
    set(schema, "type", name);
    set(schema, "formattedType", format!("{name} {made_of}").trim_end());
}

fn typed(schema: &mut Object, name: &str, made_of: String, array: &MultiArrayType) {
    kind(schema, name, made_of);
    set(schema, "dataType", array.element.name());
    set(schema, "shape", format!("{:?}", array.shape));
}

/// `(Float32 1 × 128)`
fn array_text(array: &MultiArrayType) -> String {
    format!("({} {})", array.element, times(&array.shape)).replace(" )", ")")
}

fn multi_array(schema: &mut Object, array: &MultiArrayType) {
    typed(schema, "MultiArray", array_text(array), array);
    set(schema, "hasShapeFlexibility", flag(array.flexibility != ShapeFlexibility::Fixed));
    match &array.flexibility {
        ShapeFlexibility::Fixed => {}
        ShapeFlexibility::Enumerated(shapes) => {
            let choice: Vec<String> = shapes.iter().map(|shape| times(shape)).collect();
            set(schema, "shapeFlexibility", choice.join(OR));
            set(schema, "enumeratedShapes", format!("{shapes:?}"));
        }
        ShapeFlexibility::Ranges(ranges) => {
            set(schema, "shapeFlexibility", ranges_text(ranges));
            set(schema, "shapeRange", bounds(ranges));
        }
    }
}

fn image(schema: &mut Object, image: &ImageType) {
    let color = match image.color_space {
        ColorSpace::Rgb | ColorSpace::Bgr => "Color",
        ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => image.color_space.name(),
    };
    kind(schema, "Image", format!("({color} {})", times(&[image.width, image.height])));
    set(schema, "width", image.width.to_string());
    set(schema, "height", image.height.to_string());
    set(schema, "colorspace", image.color_space.name());
    set(schema, "isColor", flag(color == "Color"));
    set(schema, "hasSizeFlexibility", flag(image.flexibility != ImageFlexibility::Fixed));
    match &image.flexibility {
        ImageFlexibility::Fixed => {}
        ImageFlexibility::Enumerated(sizes) => {
            let sizes: Vec<[usize; 2]> = sizes.iter().map(|&(w, h)| [w, h]).collect();
            let choice: Vec<String> = sizes.iter().map(|size| times(size)).collect();
            set(schema, "sizeFlexibility", choice.join(OR));
            set(schema, "enumeratedSizes", format!("{sizes:?}"));
        }
        ImageFlexibility::Ranges { width, height } => {
            set(schema, "sizeFlexibility", ranges_text(&[*width, *height]));
            set(schema, "sizeRange", bounds(&[*width, *height]));
        }
    }
}

/// `1 × 2...64`
fn ranges_text(ranges: &[(usize, Option<usize>)]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|&range| range_text(range)).collect();
    ranges.join(TIMES)
}

/// `[[1, 1], [2, 64]]`, with -1 where there is no largest size.
fn bounds(ranges: &[(usize, Option<usize>)]) -> String {
    let bound = |&(low, high): &(usize, Option<usize>)| {
        format!("[{low}, {}]", high.map_or("-1".to_owned(), |high| high.to_string()))
    };
    format!("[{}]", ranges.iter().map(bound).collect::<Vec<_>>().join(", "))
}

fn times(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(TIMES)
}

fn flag(set: bool) -> &'static str {
    if set { "1" } else { "0" }
}

fn set(schema: &mut Object, name: &str, value: impl Into<String>) {
    schema.insert(name.to_owned(), Value::String(value.into()));
}
