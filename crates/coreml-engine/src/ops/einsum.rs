//! `einsum`, of the `linear` family.

use coreml_format::mil::{ElementType, Opset};
use coreml_kernels::{BatchStrides, Matrix, MatrixMut, Order, attention_matmul, gemm_batch};
use half::f16;
use smallvec::SmallVec;

use super::elementwise_binary::common_element;
use crate::error::OpError;
use crate::op::{
    Binder, Inputs, Kernel, Op, OpDef, ResultTypes, bound, broadcast, def, flops_of, kernel, one,
};
use crate::value::{Shape, Storage, count};
use crate::weights::Weights;

/// Matrices `[c, w]` times `[w, u]` whose rows lie apart: `nchw,nwhu->nchu`, or without `n`. It is the
/// one form that the definition takes and that converters write; of all other equations they make
/// products and transpositions. `n` and `h` broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Einsum {
    pub(crate) x: usize,
    pub(crate) y: usize,
    /// Axes of operands and result.
    pub(crate) rank: usize,
    pub(crate) element: ElementType,
}

/// The equations, as numbers of letters in the order of their first use.
const FORMS: [[&[usize]; 3]; 2] =
    [[&[0, 1, 2, 3], &[0, 3, 2, 4], &[0, 1, 2, 4]], [&[0, 1, 2], &[2, 1, 3], &[0, 1, 3]]];

/// The number of axes that an equation is about.
fn rank(equation: &str) -> Result<usize, OpError> {
    let refuse = || {
        let expected = "`nchw,nwhu->nchu` or `chw,whu->chu`, whatever the letters";
        OpError::argument("equation", expected, format!("`{equation}`"))
    };
    let (operands, result) = equation.split_once("->").ok_or_else(refuse)?;
    let (x, y) = operands.split_once(',').ok_or_else(refuse)?;
    let mut letters: SmallVec<[char; 8]> = SmallVec::new();
    let numbers = [x, y, result].map(|term| {
        let number = |letter| {
            let known = letters.iter().position(|&other| other == letter);
            known.unwrap_or_else(|| {
                letters.push(letter);
                letters.len() - 1
            })
        };
        term.chars().filter(|letter| *letter != ' ').map(number).collect::<SmallVec<[usize; 8]>>()
    });
    let same = |form: &&[&[usize]; 3]| form.iter().zip(&numbers).all(|(a, b)| *a == b.as_slice());
    FORMS.iter().find(same).map(|form| form[0].len()).ok_or_else(refuse)
}

/// Sizes by their letters.
struct Sizes {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    u: usize,
}

/// An operand's elements from place to place: on `n`, on its rows, on `h` and on its columns.
#[derive(Clone, Copy)]
struct Steps {
    n: usize,
    row: usize,
    h: usize,
    col: usize,
}

impl Einsum {
    /// The sizes of an operand `[n, rows, h, cols]`.
    fn operand(&self, inputs: &Inputs, input: usize) -> Result<[usize; 4], OpError> {
        match *inputs.shape(input)? {
            [n, rows, h, cols] if self.rank == 4 => Ok([n, rows, h, cols]),
            [rows, h, cols] if self.rank == 3 => Ok([1, rows, h, cols]),
            ref shape => {
                let expected = format!("tensors of rank {}, as the equation says", self.rank);
                Err(OpError::argument("values", expected, format!("shape {shape:?}")))
            }
        }
    }

    fn sizes(&self, inputs: &Inputs) -> Result<Sizes, OpError> {
        let [x_n, c, x_h, w] = self.operand(inputs, self.x)?;
        let [y_n, y_w, y_h, u] = self.operand(inputs, self.y)?;
        if w != y_w {
            let expected = format!("{w} rows of the second, as many as columns of the first");
            return Err(OpError::argument("values", expected, y_w.to_string()));
        }
        let shared = broadcast(&[x_n, x_h], &[y_n, y_h])?;
        Ok(Sizes { n: shared[0], c, h: shared[1], w, u })
    }

    /// Steps of an operand: 0 where it broadcasts.
    fn steps(&self, inputs: &Inputs, input: usize) -> Result<Steps, OpError> {
        let [n, _, h, _] = self.operand(inputs, input)?;
        let strides = inputs.strides(input)?;
        let step = |from_the_end: usize| {
            let stride = strides.len().checked_sub(from_the_end).map_or(0, |axis| strides[axis]);
            usize::try_from(stride).unwrap_or(0)
        };
        let of = |size: usize, step: usize| if size == 1 { 0 } else { step };
        Ok(Steps { n: of(n, step(4)), row: step(3), h: of(h, step(2)), col: step(1) })
    }

    /// A kernel for products of floats: those of one `h` at a time, whose results lie apart.
    fn multiply(&self, inputs: &Inputs) -> Result<Kernel, OpError> {
        let Einsum { x, y, .. } = *self;
        let Sizes { n, c, h, w, u } = self.sizes(inputs)?;
        let (x_steps, y_steps) = (self.steps(inputs, x)?, self.steps(inputs, y)?);
        let row = h.saturating_mul(u);
        let size = c.saturating_mul(row);
        let batch = BatchStrides { count: n, a: x_steps.n, b: y_steps.n, b_repeat: 1, c: size };
        kernel(move |inputs, outputs, context| {
            let (x, y) = (inputs.tensor(x)?, inputs.tensor(y)?);
            let values = x.buffer::<f32>()?;
            let out = outputs.tensor(0)?.f32s()?;
            if out.is_empty() {
                return Ok(());
            }
            for i in 0..h {
                let data = &mut out[i * u..];
                let to = MatrixMut { data, rows: c, cols: u, row_stride: row, col_stride: 1 };
                let a = matrix(values, x.start + i * x_steps.h, (c, w), x_steps);
                let at = y.start + i * y_steps.h;
                if y.storage == Storage::F16 {
                    let b = matrix(y.buffer::<f16>()?, at, (w, u), y_steps);
                    attention_matmul(context, Order::of_halves(c), batch, a, b, to)?;
                } else {
                    let b = matrix(y.buffer::<f32>()?, at, (w, u), y_steps);
                    gemm_batch(context, Order::of_floats(c, u, w), batch, a, b, to)?;
                }
            }
            Ok(())
        })
    }

    /// A kernel for products of integers, which wrap.
    fn multiply_ints(&self, inputs: &Inputs) -> Result<Kernel, OpError> {
        let Einsum { x, y, .. } = *self;
        let Sizes { c, h, w, u, .. } = self.sizes(inputs)?;
        let (x_steps, y_steps) = (self.steps(inputs, x)?, self.steps(inputs, y)?);
        kernel(move |inputs, outputs, _context| {
            let (x, y) = (inputs.tensor(x)?, inputs.tensor(y)?);
            let (x_values, y_values) = (x.buffer::<i32>()?, y.buffer::<i32>()?);
            let out = outputs.tensor(0)?.slice::<i32>()?;
            for (row, out) in out.chunks_mut(u.max(1)).enumerate() {
                let (n, row, h) = (row / h / c, row / h % c, row % h);
                let x_at = x.start + n * x_steps.n + row * x_steps.row + h * x_steps.h;
                let y_at = y.start + n * y_steps.n + h * y_steps.h;
                for (col, out) in out.iter_mut().enumerate() {
                    *out = (0..w).fold(0, |sum: i32, k| {
                        let a = x_values[x_at + k * x_steps.col];
                        let b = y_values[y_at + k * y_steps.row + col * y_steps.col];
                        sum.wrapping_add(a.wrapping_mul(b))
                    });
                }
            }
            Ok(())
        })
    }
}

fn matrix<T>(data: &[T], at: usize, (rows, cols): (usize, usize), steps: Steps) -> Matrix<'_, T> {
    let data = data.get(at..).unwrap_or_default();
    Matrix { data, rows, cols, row_stride: steps.row, col_stride: steps.col }
}

impl Op for Einsum {
    fn infer(&self, inputs: &Inputs) -> Result<ResultTypes, OpError> {
        let Sizes { n, c, h, u, .. } = self.sizes(inputs)?;
        let shape = [n, c, h, u];
        one(self.element, Shape::from_slice(&shape[4 - self.rank..]))
    }

    fn flops(&self, inputs: &Inputs) -> Result<u64, OpError> {
        let Sizes { n, c, h, w, u } = self.sizes(inputs)?;
        Ok(flops_of(count(&[n, c, h, u]), w))
    }

    fn prepare(&self, inputs: &Inputs, _weights: &Weights) -> Result<Kernel, OpError> {
        match self.element {
            ElementType::Int32 => self.multiply_ints(inputs),
            _ => self.multiply(inputs),
        }
    }

    fn reads_half(&self, input: usize) -> bool {
        input == self.y
    }

    fn reads_strided(&self, _input: usize) -> bool {
        true
    }
}

fn einsum(binder: &mut Binder) -> Result<Box<dyn Op>, OpError> {
    let values = binder.inputs("values")?;
    if values.len() != 2 {
        return Err(OpError::argument("values", "two tensors", values.len().to_string()));
    }
    let (x, y) = (values.start, values.start + 1);
    let element = common_element(binder, [("values", x), ("values", y)])?;
    if !element.is_float() && element != ElementType::Int32 {
        let expected = "floats or elements of type `int32`";
        return Err(OpError::argument("values", expected, format!("`{element}`")));
    }
    let rank = rank(binder.string("equation")?)?;
    bound(Einsum { x, y, rank, element })
}

pub(super) const OPS: &[OpDef] = &[def("einsum", Opset::Ios15, einsum)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::Case;

    #[test]
    fn letters_may_be_others() {
        assert_eq!(rank("nchw,nwhu->nchu").unwrap(), 4);
        assert_eq!(rank("abcd, adce -> abce").unwrap(), 4);
        assert_eq!(rank("vnm,mno->vno").unwrap(), 3);
        for other in
            ["nchw,nwhu", "ab,bc->ac", "nchw,nwhu->nhcu", "nchw->nchw", "chw,whu,x->chu", ""]
        {
            let message = rank(other).unwrap_err().to_string();
            assert!(message.contains("`equation`") && message.contains("nchw"), "{message}");
        }
    }

    #[test]
    fn halves_are_read_as_they_are() {
        let x: Vec<f32> = (0..24).map(|i| i as f32 / 8.0 - 1.0).collect();
        let y: Vec<f32> = (0..36).map(|i| (i * 5 % 7) as f32 / 4.0).collect();
        let with = |case: Case| case.string("equation", "chw,whu->chu");
        let case = || Case::new().floats("values", &[4, 2, 3], &x);
        let floats = with(case().floats("values", &[3, 2, 6], &y));
        let halves = with(case().halves("values", &[3, 2, 6], &y));
        let expected = floats.run_floats("einsum", Opset::Ios15);
        assert_eq!(halves.run_floats("einsum", Opset::Ios15), expected);
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let run = |x: &[usize], y: &[usize]| {
            let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
            let case = Case::new().floats("values", x, &zeros(x)).floats("values", y, &zeros(y));
            case.string("equation", "chw,whu->chu").run("einsum", Opset::Ios15)
        };
        assert!(run(&[4, 2, 3], &[3, 1, 6]).is_ok());
        for (x, y) in
            [(&[4, 2, 3][..], &[2, 2, 6][..]), (&[4, 2, 3], &[3, 3, 6]), (&[2, 3], &[3, 6])]
        {
            let message = run(x, y).err().unwrap().to_string();
            assert!(message.contains("`values`") || message.contains("broadcast"), "{message}");
        }
    }
}
