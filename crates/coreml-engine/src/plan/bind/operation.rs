//! One plain operation: its definition, its arguments, its results.

use coreml_format::mil::{Operation, ValueType};

use super::{Failure, FunctionBinder, check_declared, list_value, node, tensor_value};
use crate::error::{Error, OpError};
use crate::graph::{Node, Origin, Run, Work};
use crate::ids::{Operand, ValueId};
use crate::op::{
    Bind, Binder, Bound, BoundOperation, Frame, Inputs, Op, OpDef, ResultType, ResultTypes,
};
use crate::ops::{self, Select, Support};
use crate::plan::fold::loses_integers;
use crate::weights::{Expression, Folded};

impl<'a> FunctionBinder<'a> {
    pub(super) fn plain(
        &mut self,
        operation: &'a Operation,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let (definition, def) = match ops::support(&operation.operator, self.function.opset) {
            Support::Computed(definition, def) => (definition, def),
            missing => return Err(self.unsupported(operation, &missing).into()),
        };
        let mut arguments: Vec<(&str, Bound)> = Vec::with_capacity(operation.inputs.len());
        for (name, argument) in &operation.inputs {
            arguments.push((name, self.bound(argument)?));
        }
        let declared: Vec<ValueType> =
            operation.outputs.iter().map(|output| output.ty.clone()).collect();
        let bind = |graph| Binder::new(definition, &arguments, graph, &declared)?.bind(def);
        if let Bind::Constant(_) = def.bind {
            let expression = self.expression(def, &arguments);
            let folded = self.weights.expression(expression, || match bind(&self.graph)? {
                BoundOperation::Constants(folded) => Ok(folded),
                BoundOperation::Op(..) => Err(OpError::invalid("it is no constant expression")),
            })?;
            return Ok(self.constants(operation, folded)?);
        }
        match bind(&self.graph)? {
            BoundOperation::Constants(folded) => Ok(self.constants(operation, folded)?),
            BoundOperation::Op(op, inputs) => Ok(self.run(operation, op, inputs, nodes)?),
        }
    }

    fn unsupported(&self, operation: &Operation, missing: &Support) -> Error {
        Error::UnsupportedOperation {
            function: self.name.to_owned(),
            operation: operation.name().to_owned(),
            operator: operation.operator.clone(),
            opset: self.function.opset,
            hint: missing.hint(),
        }
    }

    /// What identifies a constant expression, if its arguments have identities.
    fn expression(&self, def: &OpDef, arguments: &[(&str, Bound)]) -> Option<Expression> {
        let mut keys = Vec::with_capacity(arguments.len());
        for (name, bound) in arguments {
            for operand in bound {
                keys.push(((*name).to_owned(), self.graph.constant(*operand)?.key()?));
            }
        }
        Some(Expression { operator: def.name, since: def.since, arguments: keys })
    }

    fn constants(&mut self, operation: &'a Operation, folded: Folded) -> Result<(), OpError> {
        let types =
            folded.iter().map(|constant| ResultType::new(constant.element, constant.shape.clone()));
        self.check_types(operation, None, &types.collect())?;
        self.define_constants(operation, folded)
    }

    /// Adds a node for a bound operation, or the constants that it amounts to.
    fn run(
        &mut self,
        operation: &'a Operation,
        op: Box<dyn Op>,
        inputs: Vec<Operand>,
        nodes: &mut Vec<Node>,
    ) -> Result<(), OpError> {
        let types = match op.infer(&Inputs::new(&inputs, &self.graph)) {
            Ok(types) => Some(types),
            Err(OpError::NotYetKnown) => None,
            Err(error) => return Err(error),
        };
        if let Some(types) = &types {
            self.check_types(operation, Some(op.as_ref()), types)?;
            let tensors = operation.outputs.iter().all(|o| matches!(o.ty, ValueType::Tensor(_)));
            if tensors
                && !loses_integers(op.as_ref(), &inputs, &self.graph)
                && let Some(constants) =
                    self.folder.fold(op.as_ref(), &inputs, types, &self.graph)?
            {
                return self.define_constants(operation, constants);
            }
        }
        let outputs = self.result_values(operation, types.as_ref())?;
        let operands: Vec<Operand> = outputs.iter().copied().map(Operand::Value).collect();
        self.define_outputs(operation, &operands)?;
        nodes.push(node(operation, Work::Run(Run::new(op, inputs, outputs))));
        Ok(())
    }

    /// Values for an operation's results.
    fn result_values(
        &mut self,
        operation: &Operation,
        types: Option<&ResultTypes>,
    ) -> Result<Vec<ValueId>, OpError> {
        let mut values = Vec::with_capacity(operation.outputs.len());
        for (index, output) in operation.outputs.iter().enumerate() {
            let value = match &output.ty {
                ValueType::List(element, _) => list_value(&output.name, element)?,
                ValueType::Tensor(declared) => {
                    let shape = types.and_then(|types| types.get(index)).map(|ty| ty.shape.clone());
                    tensor_value(&output.name, declared, shape, Origin::Own)?
                }
                other => return Err(OpError::unsupported(format!("a result of type {other}"))),
            };
            values.push(self.graph.values.add(value));
        }
        Ok(values)
    }

    /// The results must be what the program declares, and as many.
    fn check_types(
        &mut self,
        operation: &Operation,
        op: Option<&dyn Op>,
        types: &ResultTypes,
    ) -> Result<(), OpError> {
        if operation.outputs.len() != types.len() {
            return Err(OpError::invalid(format!(
                "the program names {} results, the operation has {}",
                operation.outputs.len(),
                types.len()
            )));
        }
        for (output, ty) in operation.outputs.iter().zip(types) {
            let ValueType::Tensor(declared) = &output.ty else { continue };
            if op.is_some_and(|op| op.downcast::<Select>().is_some()) {
                self.shapes_declared &= declared.allows(&ty.shape);
            }
            if self.shapes_declared || declared.element != ty.element {
                check_declared(&output.name, declared, ty)?;
            }
        }
        Ok(())
    }
}
