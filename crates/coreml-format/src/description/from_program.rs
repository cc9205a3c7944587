//! What a program says about its interface, for models whose description leaves it out.

use crate::mil::{
    self, Dimension, ElementType, Function, NamedValueType, Opset, Program, ValueType,
};

use super::{
    ArrayElementType, FeatureDescription, FeatureType, FunctionDescription, MAIN, ModelDescription,
    MultiArrayType, ShapeFlexibility,
};

impl ModelDescription {
    /// What a program alone tells: its functions with their parameters and results as multi-arrays,
    /// and the version that the newest opset implies. The default function is `main` if there is
    /// one, else the first by name.
    pub(crate) fn from_program(program: &Program) -> Self {
        let mut description = ModelDescription {
            specification_version: specification_version(program),
            default_function: MAIN.to_owned(),
            ..Default::default()
        };
        description.complete(program);
        if description.functions.is_empty()
            && let Some(function) = program.functions.get(&description.default_function)
        {
            let only = describe(&description.default_function, function);
            description.inputs = only.inputs;
            description.outputs = only.outputs;
            description.states = only.states;
        }
        description
    }

    /// Adds functions of the program that the description does not mention. Where it mentions none,
    /// the default function is one that the program has.
    pub(crate) fn complete(&mut self, program: &Program) {
        if self.functions.is_empty()
            && !program.functions.contains_key(&self.default_function)
            && let Some(first) = program.functions.keys().next()
        {
            self.default_function.clone_from(first);
        }
        if program.functions.len() < 2 {
            return;
        }
        let stated = self.function(&self.default_function).filter(|f| !f.outputs.is_empty());
        for (name, function) in &program.functions {
            if !self.functions.iter().any(|described| described.name == *name) {
                let stated = stated.as_ref().filter(|stated| stated.name == *name);
                let described = stated.cloned().unwrap_or_else(|| describe(name, function));
                self.functions.push(described);
            }
        }
    }
}

/// The version that the newest opset of the program implies; 0 without functions.
pub(crate) fn specification_version(program: &Program) -> i32 {
    let newest = program.functions.values().map(|function| function.opset).max();
    newest.map_or(0, |opset| match opset {
        Opset::Ios15 => 6,
        Opset::Ios16 => 7,
        Opset::Ios17 => 8,
        Opset::Ios18 => 9,
        Opset::Ios26 => 10,
    })
}

fn describe(name: &str, function: &Function) -> FunctionDescription {
    let (states, inputs) =
        function.inputs.iter().partition(|input| matches!(input.ty, ValueType::State(_)));
    let features = |values: Vec<&NamedValueType>| values.into_iter().filter_map(feature).collect();
    let outputs = function.block.outputs.iter().filter_map(|name| output(function, name));
    FunctionDescription {
        inputs: features(inputs),
        outputs: features(outputs.collect()),
        states: features(states),
        ..FunctionDescription::new(name)
    }
}

fn output<'a>(function: &'a Function, name: &str) -> Option<&'a NamedValueType> {
    let results = function.block.operations.iter().flat_map(|operation| &operation.outputs);
    function.inputs.iter().chain(results).find(|value| value.name == name)
}

fn feature(value: &NamedValueType) -> Option<FeatureDescription> {
    let array = multi_array(value.ty.as_tensor()?);
    Some(FeatureDescription {
        name: value.name.clone(),
        short_description: String::new(),
        optional: false,
        ty: match value.ty {
            ValueType::State(_) => FeatureType::State(array),
            _ => FeatureType::MultiArray(array),
        },
    })
}

fn multi_array(tensor: &mil::TensorType) -> MultiArrayType {
    let range = |dimension: &Dimension| match dimension {
        Dimension::Fixed(size) => (*size, Some(*size)),
        Dimension::Unknown | Dimension::Variadic => (1, None),
    };
    let flexibility = match tensor.fixed_shape() {
        Some(_) => ShapeFlexibility::Fixed,
        None => ShapeFlexibility::Ranges(tensor.shape.iter().map(range).collect()),
    };
    MultiArrayType {
        element: match tensor.element {
            ElementType::Float16 => ArrayElementType::Float16,
            ElementType::Float64 => ArrayElementType::Double,
            ElementType::Int8 => ArrayElementType::Int8,
            element if element.is_float() => ArrayElementType::Float32,
            _ => ArrayElementType::Int32,
        },
        shape: tensor.fixed_shape().unwrap_or_default(),
        flexibility,
        default_value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::from_text;

    #[test]
    fn functions_that_only_the_program_has_are_described() {
        let text = r#"program(1.3)
        {
            func infer<ios18>(tensor<fp16, [1, ?]> x, state<tensor<fp16, [4, 3]>> cache) {
                tensor<fp16, [1, ?]> y = relu(x = x)[name = string("y")];
            } -> (y);
            func prefill<ios18>(tensor<int32, [2]> ids) {
                tensor<int32, [2]> out = identity(x = ids)[name = string("out")];
            } -> (out);
        }"#;
        let program = from_text(text).unwrap();
        let mut description =
            ModelDescription { default_function: "main".into(), ..Default::default() };
        description.complete(&program);
        assert_eq!(description.default_function, "infer");
        let prefill = description.function("prefill").unwrap();
        assert_eq!(prefill.inputs[0].ty.to_string(), "MultiArray Int32 [2]");
        let names: Vec<&str> =
            description.functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["infer", "prefill"]);
        let infer = description.function("infer").unwrap();
        assert_eq!(infer.inputs[0].ty.to_string(), "MultiArray Float16 (1 × 1...)");
        assert_eq!(infer.states[0].name, "cache");
    }

    #[test]
    fn a_stated_description_stays() {
        let text = r#"program(1.0)
        { func main<ios15>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> y = relu(x = x)[name = tensor<string, []>("y")];
        } -> (y); }"#;
        let program = from_text(text).unwrap();
        let stated = ModelDescription { default_function: "main".into(), ..Default::default() };
        let mut description = stated.clone();
        description.complete(&program);
        assert_eq!(description, stated);
    }
}
