//! Feature types as text for people.

use std::fmt;

use super::{
    ArrayElementType, ColorSpace, DictionaryKey, FeatureType, ImageFlexibility, ImageType,
    MultiArrayType, ShapeFlexibility,
};

impl fmt::Display for ArrayElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ColorSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DictionaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DictionaryKey::Int64 => "Int64",
            DictionaryKey::String => "String",
        })
    }
}

impl fmt::Display for FeatureType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeatureType::MultiArray(array) => write!(f, "MultiArray {array}"),
            FeatureType::Image(image) => write!(f, "Image {image}"),
            FeatureType::Dictionary(key) => write!(f, "Dictionary {key} → Double"),
            FeatureType::String => f.write_str("String"),
            FeatureType::Int64 => f.write_str("Int64"),
            FeatureType::Double => f.write_str("Double"),
            FeatureType::Sequence(sequence) => {
                write!(f, "Sequence of {} {}", range_text(sequence.length), sequence.element)
            }
            FeatureType::State(array) => write!(f, "State {array}"),
        }
    }
}

impl fmt::Display for MultiArrayType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.element.fmt(f)?;
        if !self.shape.is_empty() {
            write!(f, " {:?}", self.shape)?;
        }
        match &self.flexibility {
            ShapeFlexibility::Fixed if self.shape.is_empty() => f.write_str(" (any shape)"),
            ShapeFlexibility::Fixed => Ok(()),
            ShapeFlexibility::Enumerated(shapes) => {
                let shapes: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
                write!(f, " (one of {})", shapes.join(", "))
            }
            ShapeFlexibility::Ranges(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(|&range| range_text(range)).collect();
                write!(f, " ({})", ranges.join(" × "))
            }
        }
    }
}

impl fmt::Display for ImageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} × {}", self.color_space, self.width, self.height)?;
        match &self.flexibility {
            ImageFlexibility::Fixed => Ok(()),
            ImageFlexibility::Enumerated(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(|(w, h)| format!("{w} × {h}")).collect();
                write!(f, " (one of {})", sizes.join(", "))
            }
            ImageFlexibility::Ranges { width, height } => {
                write!(f, " ({} × {})", range_text(*width), range_text(*height))
            }
        }
    }
}

/// `2`, `1...64` or `1...`.
pub(crate) fn range_text((smallest, largest): (usize, Option<usize>)) -> String {
    match largest {
        Some(largest) if largest == smallest => smallest.to_string(),
        Some(largest) => format!("{smallest}...{largest}"),
        None => format!("{smallest}..."),
    }
}
