//! A step of several calls at once.

use coreml_kernels::Context;
use smallvec::SmallVec;

use super::{Call, Ready, Running, StepError};
use crate::error::OpError;
use crate::op::{Inputs, Kernel, Product};
use crate::plan::{Plan, Run, Step, Work};

/// Calls that are run at once without memory for a list of them; few are more.
const MOST_INLINE: usize = 8;

/// Runs a step of all calls: a product with weights once for all, everything else for one after the other.
pub(super) fn step(
    plan: &Plan,
    context: &Context,
    calls: &mut [Call],
    step: &Step,
) -> Result<(), StepError> {
    let named = |error| StepError::new(step, error);
    let mut calls: SmallVec<[Running; MOST_INLINE]> =
        calls.iter_mut().map(|call| Running::new(plan, context, call)).collect();
    for call in &calls {
        call.may_go_on().map_err(named)?;
    }
    match &step.work {
        Work::Run(run) => operation(context, &mut calls, run).map_err(named),
        _ => calls.iter_mut().try_for_each(|call| call.step(step)),
    }
}

fn operation<'a>(
    context: &Context,
    calls: &mut [Running<'a, '_>],
    run: &'a Run,
) -> Result<(), OpError> {
    let ready: SmallVec<[Ready<'a>; MOST_INLINE]> =
        calls.iter_mut().map(|call| call.ready(run)).collect::<Result<_, _>>()?;
    compute(context, calls, run, &ready)?;
    calls.iter_mut().zip(ready).for_each(|(call, ready)| call.put_back(run, ready));
    Ok(())
}

fn compute<'a>(
    context: &Context,
    calls: &mut [Running<'a, '_>],
    run: &'a Run,
    ready: &[Ready<'a>],
) -> Result<(), OpError> {
    let products: Option<SmallVec<[&Product; MOST_INLINE]>> =
        ready.iter().zip(&*calls).map(|(ready, call)| shared_product(ready, call, run)).collect();
    if let Some(products) = products {
        return multiply(context, calls, run, ready, &products);
    }
    for (call, ready) in calls.iter_mut().zip(ready) {
        let Some(kernel) = ready.kernel() else { continue };
        call.compute(run, ready.shapes(), |inputs, outputs, context| {
            kernel.run(inputs, outputs, context)
        })?;
    }
    Ok(())
}

/// The product of a call, if that is what it runs and its weights are those of all calls.
fn shared_product<'r>(ready: &'r Ready, call: &Running, run: &Run) -> Option<&'r Product> {
    match ready.kernel()? {
        Kernel::Product(product) => {
            product.has_constant_weights(&Inputs::new(&run.inputs, call)).then_some(product)
        }
        Kernel::Function(_) => None,
    }
}

/// Multiplies the columns of all calls at once.
fn multiply<'a>(
    context: &Context,
    calls: &mut [Running<'a, '_>],
    run: &'a Run,
    ready: &[Ready<'a>],
    products: &[&Product],
) -> Result<(), OpError> {
    let Some(first) = products.first() else { return Ok(()) };
    let (rows, cols) = (first.rows, first.cols);
    let columns = products.iter().map(|product| product.columns).sum::<usize>();
    let size = |of: usize| columns.checked_mul(of).ok_or_else(OpError::too_large);
    let mut x = context.scratch().take::<f32>(size(cols)?)?;
    let mut out = context.scratch().take::<f32>(size(rows)?)?;
    let mut rest = &mut x[..];
    for (call, product) in calls.iter().zip(products) {
        let (part, others) = rest.split_at_mut(product.columns * cols);
        product.gather(&Inputs::new(&run.inputs, call), part)?;
        rest = others;
    }
    first.run_dense(&Inputs::new(&run.inputs, &calls[0]), context, &x, columns, &mut out)?;
    let mut rest = &out[..];
    for ((call, product), ready) in calls.iter_mut().zip(products).zip(ready) {
        let (part, others) = rest.split_at(product.columns * rows);
        call.compute(run, ready.shapes(), |_, outputs, _| product.scatter(part, outputs))?;
        rest = others;
    }
    Ok(())
}
