//! What a function takes.

use coreml_format::description::{
    ArrayElementType, FeatureType, FunctionDescription, MultiArrayType, ShapeMismatch,
};
use coreml_format::mil::{ElementType, TensorType, ValueType};

use crate::error::{Error, Result};
use crate::value::{Shape, Storage};

/// A tensor input of a function.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FunctionInput {
    /// Its name.
    pub name: String,
    /// Its type in the program.
    pub ty: TensorType,
    /// How its elements are held.
    pub storage: Storage,
    /// What the model's description says of it, if it is a multi-array or an image there: for an image,
    /// the arrays that are given for images of the sizes it allows.
    pub feature: Option<MultiArrayType>,
    /// True when it may be left out.
    pub optional: bool,
}

impl FunctionInput {
    /// That of a parameter.
    ///
    /// # Errors
    /// When the parameter is no tensor that the engine holds.
    pub(super) fn new(
        function: &str,
        name: &str,
        ty: &ValueType,
        description: Option<&FunctionDescription>,
    ) -> Result<Self> {
        let wrong = |message| Error::Program { function: function.to_owned(), message };
        let ValueType::Tensor(tensor) = ty else {
            return Err(wrong(format!("input `{name}` has type {ty}, which is no tensor")));
        };
        let storage = Storage::natural(tensor.element).ok_or_else(|| {
            wrong(format!("input `{name}` has elements of type `{}`", tensor.element))
        })?;
        let feature = description
            .and_then(|description| description.inputs.iter().find(|input| input.name == name));
        let element = match tensor.element {
            ElementType::Float16 => ArrayElementType::Float16,
            _ => ArrayElementType::Float32,
        };
        Ok(FunctionInput {
            name: name.to_owned(),
            ty: tensor.clone(),
            storage,
            optional: feature.is_some_and(|feature| feature.optional),
            feature: match feature.map(|feature| &feature.ty) {
                Some(FeatureType::MultiArray(array)) => Some(array.clone()),
                Some(FeatureType::Image(image)) => Some(image.as_arrays(element)),
                _ => None,
            },
        })
    }

    /// The shape for which the function is prepared when it is loaded.
    pub fn default_shape(&self) -> Option<Shape> {
        let stated = self.feature.as_ref().map(|feature| feature.shape.as_slice());
        match self.ty.fixed_shape() {
            Some(shape) => Some(shape.into()),
            None => stated.filter(|shape| shape.len() == self.ty.shape.len()).map(Shape::from),
        }
    }

    /// The shape that the program sees of a value of this shape; `None` when the input may not have it.
    /// No feature has rank 0: a program's scalar is described, and may be given, as `[1]`.
    pub fn shape_in_program(&self, shape: &[usize]) -> Option<Shape> {
        if self.ty.shape.is_empty() {
            return matches!(shape, [] | [1]).then(Shape::new);
        }
        let allowed = self.ty.allows(shape)
            && self.feature.as_ref().is_none_or(|feature| feature.allows(shape));
        allowed.then(|| shape.into())
    }

    /// Why the description does not let the input have this shape, if so.
    pub fn mismatch(&self, shape: &[usize]) -> Option<ShapeMismatch> {
        self.feature.as_ref()?.mismatch(shape)
    }

    /// The type that the model states, for messages.
    pub fn expected(&self) -> String {
        match &self.feature {
            Some(feature) => feature.to_string(),
            None => self.ty.to_string(),
        }
    }

    /// The type that a tensor of this shape does not have, for messages: where the model's description
    /// allows the shape but its program does not, both.
    pub fn expected_instead(&self, shape: &[usize]) -> String {
        match &self.feature {
            Some(feature) if feature.allows(shape) => format!(
                "{} as the program has it (the model's description says {feature}, which contradicts \
                 it: the model is damaged)",
                self.ty
            ),
            _ => self.expected(),
        }
    }
}
