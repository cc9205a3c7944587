//! Results that are parts of other values.

use super::readers::{Readers, readers};
use crate::error::OpError;
use crate::graph::{Block, Graph, Node, Origin, Run, nested};
use crate::ids::{Operand, ValueId, Values};
use crate::op::{Frame, Inputs};

/// Makes results views where nothing has to run for them.
pub(super) struct Views<'a> {
    graph: &'a mut Graph,
    readers: Values<Readers>,
}

impl<'a> Views<'a> {
    pub(super) fn new(graph: &'a mut Graph, body: &Block) -> Self {
        let readers = readers(graph, body);
        Views { graph, readers }
    }

    pub(super) fn block<'b>(&mut self, block: &'b Block) -> Result<(), (&'b Node, OpError)> {
        for node in &block.nodes {
            if let Some(run) = node.run() {
                self.run(run).map_err(|error| (node, error))?;
            }
            for inner in nested(node) {
                self.block(inner)?;
            }
        }
        Ok(())
    }

    /// All of an operation's results become views, or none: it has to run anyway for one.
    fn run(&mut self, run: &Run) -> Result<(), OpError> {
        let Some(&Operand::Value(of)) =
            run.op.keeps_storage_of().and_then(|input| run.inputs.get(input))
        else {
            return Ok(());
        };
        let mut origins = Vec::with_capacity(run.outputs.len());
        for (index, &output) in run.outputs.iter().enumerate() {
            match self.origin(run, of, index, output)? {
                Some(origin) => origins.push(origin),
                None => return Ok(()),
            }
        }
        for (&output, origin) in run.outputs.iter().zip(origins) {
            self.graph.values[output].origin = origin;
        }
        Ok(())
    }

    fn origin(
        &self,
        run: &Run,
        of: ValueId,
        index: usize,
        output: ValueId,
    ) -> Result<Option<Origin>, OpError> {
        let strided = self.readers[output] == Readers::Strided;
        let inputs = Inputs::new(&run.inputs, self.graph);
        let view = match run.op.view(&inputs, index) {
            Ok(Some(view)) => view,
            Ok(None) => return Ok(None),
            // A run finds out; what it finds may be strided.
            Err(OpError::NotYetKnown) => return Ok(strided.then_some(Origin::Open { of })),
            Err(error) => return Err(error),
        };
        let Some(shape) = self.graph.shape(Operand::Value(output)) else {
            return Ok(strided.then_some(Origin::Open { of }));
        };
        let dense = view.is_dense(shape);
        let readable = dense || strided && !view.runs_backwards();
        Ok(readable.then_some(Origin::View { of, view, dense }))
    }
}
