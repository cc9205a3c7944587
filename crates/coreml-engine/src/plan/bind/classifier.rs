//! `classify`, the end of a classifier.

use coreml_format::mil::Operation;
use coreml_format::model::ClassLabels;

use super::{Failure, FunctionBinder};
use crate::error::OpError;
use crate::op::Frame;
use crate::value::element_count;

impl<'a> FunctionBinder<'a> {
    /// Nothing is computed: both results are the probabilities, of which whoever reads them makes the
    /// class and the dictionary ([`Classifier`](crate::Classifier)).
    pub(super) fn classify(&mut self, operation: &'a Operation) -> Result<(), Failure> {
        if self.scopes.len() > 1 {
            let message = "a `classify` within a loop or a branch; it ends a function";
            return Err(OpError::unsupported(message).into());
        }
        let probabilities = self.argument(operation, "probabilities")?;
        let element = self.graph.kind(probabilities).0;
        if !element.is_float() {
            let got = format!("`{element}`");
            return Err(OpError::argument("probabilities", "floats", got).into());
        }
        let classes = ClassLabels::of_operation(operation, &self.function.block)
            .ok_or_else(|| OpError::argument("classes", "a list of strings or integers", "none"))?;
        let count = self.graph.shape(probabilities).and_then(element_count);
        if let Some(count) = count.filter(|&count| count != classes.len()) {
            let expected = format!("a class for each of {count} probabilities");
            return Err(OpError::argument("classes", expected, classes.len().to_string()).into());
        }
        let [class, dictionary] = operation.outputs.as_slice() else {
            let message = "a `classify` has two results, the class and the probabilities";
            return Err(OpError::invalid(message).into());
        };
        self.classified.extend([&*class.name, &*dictionary.name].map(|name| (name, probabilities)));
        Ok(())
    }
}
