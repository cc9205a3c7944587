//! `select`, of the `control_flow` family, whose other operations the plan handles itself.

use coreml_format::mil::{ElementType, Opset};

use super::elementwise_binary::common_element;
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Moves, Op, OpDef, ResultTypes, Walk, bound, broadcast, def, kernel, one,
};
use crate::value::{Element, Shape, TensorMut, TensorRef, Visitor};
use crate::weights::Weights;

/// Elements of `a` where `cond` is true, of `b` elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub(crate) cond: usize,
    pub(crate) a: usize,
    pub(crate) b: usize,
    /// The common element type of `a` and `b`.
    pub(crate) element: ElementType,
}

impl Select {
    fn shape(&self, inputs: &Inputs) -> Result<Shape, OpError> {
        let shape = broadcast(inputs.shape(self.a)?, inputs.shape(self.b)?)?;
        broadcast(&shape, inputs.shape(self.cond)?)
    }
}

impl Op for Select {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        one(self.element, self.shape(inputs)?)
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        let operands = [self.cond, self.a, self.b];
        let walk = Walk::of(inputs, operands, &self.shape(inputs)?)?;
        kernel(move |inputs, outputs, _context| {
            let [cond, a, b] = operands;
            let (cond, a, b) = (inputs.tensor(cond)?, inputs.tensor(a)?, inputs.tensor(b)?);
            let out = outputs.tensor(0)?;
            out.storage.visit(Choose { walk: &walk, operands: [&cond, &a, &b], out })
        })
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }

    fn moves(&self) -> Option<Moves> {
        Moves::new(&Select { element: ElementType::Int32, ..self.clone() }, [self.a, self.b])
    }
}

/// The operands and the result of a run.
struct Choose<'r, 'a> {
    walk: &'r Walk<3>,
    operands: [&'r TensorRef<'r>; 3],
    out: &'r mut TensorMut<'a>,
}

impl Visitor for Choose<'_, '_> {
    type Output = Result<(), OpError>;

    fn visit<T: Element>(self) -> Self::Output {
        let choose = |cond: u8, a: T, b: T| if cond != 0 { a } else { b };
        self.walk.zip(self.operands, self.out.slice()?, choose)
    }
}

fn select(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (cond, a, b) = (binder.input("cond")?, binder.input("a")?, binder.input("b")?);
    let element = common_element(binder, [("a", a), ("b", b)])?;
    bound(Select { cond, a, b, element })
}

pub(super) const OPS: &[OpDef] = &[def("select", Opset::Ios15, select)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Case, Value};

    #[test]
    fn all_three_operands_broadcast() {
        // np.where([[[1], [0]]], [[10, 11, 12]], [[[1], [2]], [[3], [4]]])
        let cond = Value::tensor(ElementType::Bool, &[1, 2, 1], &[1u8, 0]);
        let case = Case::new().value("cond", cond).ints("a", &[1, 3], &[10, 11, 12]);
        let case = case.ints("b", &[2, 2, 1], &[1, 2, 3, 4]);
        let expected = vec![10, 11, 12, 2, 2, 2, 10, 11, 12, 4, 4, 4];
        assert_eq!(case.run_ints("select", Opset::Ios15), (vec![2, 2, 3], expected));
    }

    #[test]
    fn a_constant_does_not_decide_the_type() {
        let cond = Value::tensor(ElementType::Bool, &[2], &[1u8, 0]);
        let case = Case::new().value("cond", cond).float("a", -1.0);
        let b = Value::tensor(ElementType::Float16, &[2], &[2f32, 3.0]);
        let result = case.value("b", b).run("select", Opset::Ios16).unwrap();
        assert_eq!(result[0].element(), ElementType::Float16);
        assert_eq!(result[0].values::<f32>(), [-1.0, 3.0]);
    }
}
