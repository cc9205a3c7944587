//! `select`, of the `control_flow` family, whose other operations the plan handles itself.

use coreml_format::mil::{ElementType, Opset};

use super::broadcast::{Walk, shape as broadcast_shape};
use super::{Binder, Inputs, Op, OpDef, OpError, Outputs, ResultTypes, Scratch, def, one};

/// Elements of `a` where `cond` is true, of `b` elsewhere.
struct Select {
    cond: usize,
    a: usize,
    b: usize,
    element: ElementType,
}

impl Op for Select {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let shape = broadcast_shape(inputs.shape(self.a)?, inputs.shape(self.b)?)?;
        one(self.element, broadcast_shape(&shape, inputs.shape(self.cond)?)?)
    }

    fn run(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
        _scratch: &mut Scratch,
    ) -> Result<(), OpError> {
        match outputs.tensor(0)?.storage.size() {
            1 => self.choose::<1>(inputs, outputs),
            2 => self.choose::<2>(inputs, outputs),
            4 => self.choose::<4>(inputs, outputs),
            _ => self.choose::<8>(inputs, outputs),
        }
    }
}

impl Select {
    fn choose<const N: usize>(
        &self,
        inputs: &Inputs,
        outputs: &mut Outputs,
    ) -> Result<(), OpError> {
        let (cond, a, b) =
            (inputs.tensor(self.cond)?, inputs.tensor(self.a)?, inputs.tensor(self.b)?);
        let out = outputs.tensor(0)?;
        for (name, operand) in [("a", &a), ("b", &b)] {
            if operand.storage != out.storage {
                let got = format!("`{}`", operand.element);
                return Err(OpError::argument(name, format!("`{}`", out.element), got));
            }
        }
        let walk = Walk::new([cond.shape, a.shape, b.shape], out.shape);
        let cond = cond.slice::<u8>()?;
        let (a, b) = (a.bytes.as_chunks::<N>().0, b.bytes.as_chunks::<N>().0);
        let out = out.bytes.as_chunks_mut::<N>().0;
        walk.check([cond.len(), a.len(), b.len()], out.len())?;
        let (len, steps) = walk.row();
        let [cond_step, a_step, b_step] = steps.map(usize::from);
        walk.for_each_row(|first, [cond_at, a_at, b_at]| {
            for (i, out) in out[first..first + len].iter_mut().enumerate() {
                let holds = cond[cond_at + i * cond_step] != 0;
                *out = if holds { a[a_at + i * a_step] } else { b[b_at + i * b_step] };
            }
        });
        Ok(())
    }
}

fn select(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let (cond, a, b) = (binder.input("cond")?, binder.input("a")?, binder.input("b")?);
    // A constant may be `fp32` beside a value that is `fp16`, which counts.
    let fixed = matches!(binder.constant("a"), Ok(Some(_)));
    let element = binder.element(if fixed { b } else { a });
    Ok(Box::new(Select { cond, a, b, element }))
}

pub(super) const OPS: &[OpDef] = &[def("select", Opset::Ios15, select)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Case, Value};

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
