//! Legalising: how values are held, and who reads them in which form. Constants are expanded or
//! widened only for operations that do not read them as they are, values held as halves are widened
//! for those that compute in single precision, and results that are parts of other values become
//! views wherever their readers take them.

mod convert;
mod readers;
mod views;

use coreml_format::mil::ElementType;

use self::convert::Converter;
pub(crate) use self::convert::readable_constant;
use self::views::Views;
use crate::error::{Error, OpError, OperationError, Result};
use crate::graph::{Graph, Node};
use crate::ids::Operand;
use crate::op::{Frame, Op};
use crate::value::Storage;
use crate::weights::Weights;

/// Legalises a graph. Without `optimise` nothing is a view.
pub(crate) fn legalise(
    function: &str,
    graph: &mut Graph,
    weights: &Weights,
    optimise: bool,
) -> Result<()> {
    let mut body = std::mem::take(&mut graph.body);
    let mut converter = Converter::new(function, graph, weights);
    converter.block(&mut body, true)?;
    if optimise {
        Views::new(graph, &body)
            .block(&body)
            .map_err(|(node, error)| named(function, node, error))?;
    }
    graph.body = body;
    Ok(())
}

/// An operation's error with the operation's names.
fn named(function: &str, node: &Node, source: OpError) -> Error {
    Error::Operation(Box::new(OperationError {
        function: function.to_owned(),
        operation: node.source.name.clone(),
        operator: node.source.operator.clone(),
        source,
    }))
}

/// How an operation's result of this element type is held.
pub(crate) fn result_storage(
    op: &dyn Op,
    operands: &[Operand],
    frame: &dyn Frame,
    element: ElementType,
) -> Result<Storage, OpError> {
    match op.keeps_storage_of().and_then(|input| operands.get(input)) {
        Some(operand) => Ok(frame.kind(*operand).1),
        None => Storage::natural(element)
            .ok_or_else(|| OpError::unsupported(format!("a value of type `{element}`"))),
    }
}
