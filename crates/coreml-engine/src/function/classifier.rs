//! What `classify` makes of probabilities at the end of a function.

use coreml_format::mil;
use coreml_format::model::ClassLabels;

/// The end of a classifier: its `classify` operation. The outputs that it names are given as the
/// probabilities that it takes; whoever reads them makes of them what the operation says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Classifier {
    /// The output that is the class with the greatest probability, by its number.
    pub class: Option<usize>,
    /// The output that is a dictionary of the probabilities by class, by its number.
    pub probabilities: Option<usize>,
    /// The classes, in the order of their probabilities.
    pub classes: ClassLabels,
}

impl Classifier {
    /// That of a function, if it has one.
    pub(super) fn of(function: &mil::Function) -> Option<Self> {
        let block = &function.block;
        let classify = block.operations.iter().find(|it| it.operator == "classify")?;
        let classes = ClassLabels::of_operation(classify, block)?;
        let place = |result: usize| {
            let name = &classify.outputs.get(result)?.name;
            block.outputs.iter().position(|output| output == name)
        };
        Some(Classifier { class: place(0), probabilities: place(1), classes })
    }
}
