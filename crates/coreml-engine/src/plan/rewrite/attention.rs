//! Attention as exporters write it, as products around a `softmax`: one operation, which makes no scores for
//! what no query sees, and reads no such keys and values.

use coreml_format::mil::{Dimension, TensorType};
use smallvec::SmallVec;

use super::{Effect, Match, Pattern, Replacement, Rule, Site, any, first_of, number, op};
use crate::graph::Graph;
use crate::ids::Operand;
use crate::op::Frame;
use crate::ops::{Attention, Binary, ElementwiseBinary, Matmul, Order, Reorder, Softmax};

/// `matmul(softmax(matmul(query, key) · scale + mask), value)`, where the scale, which may be a divisor, and
/// the mask may be missing, and nothing else reads the weights.
pub(super) const PRODUCTS_AROUND_SOFTMAX: Rule = Rule {
    name: "products around a softmax",
    effect: Effect::Fusion,
    pattern: || {
        let masked = binary("masked", Binary::Add).of_both(scores(), any("mask"));
        let weights = op("weights", |_: &Softmax| true).reading(0, first_of([masked, scores()]));
        product("mixed").reading(0, weights).reading(1, any("value"))
    },
    replace: fused,
};

/// The products of queries and keys, scaled or not.
fn scores() -> Pattern {
    let products = || product("products").reading(0, any("query")).reading(1, any("key"));
    first_of([
        binary("scaled", Binary::Mul).of_both(products(), any("scale")),
        binary("divided", Binary::RealDiv).reading(0, products()).reading(1, any("divisor")),
        products(),
    ])
}

fn binary(name: &'static str, function: Binary) -> Pattern {
    op(name, move |op: &ElementwiseBinary| op.function == function)
}

/// A product of matrices of floats neither of which is that of a layer.
fn product(name: &'static str) -> Pattern {
    op(name, |product: &Matmul| {
        product.element.is_float() && product.weight.is_none() && product.converted.is_none()
    })
}

fn fused(site: &mut Site, found: &Match) -> Option<Replacement> {
    let (products, mixed): (&Matmul, &Matmul) = (found.op("products")?, found.op("mixed")?);
    let query = turned(site, found.operand("query")?, products.transpose_x)?;
    // The columns of a product's second matrix are the keys: they lie as rows here.
    let key = turned(site, found.operand("key")?, !products.transpose_y)?;
    let value = turned(site, found.operand("value")?, mixed.transpose_y)?;
    let key_repeat = repeat(site.graph, query, key, products.repeat)?;
    let value_repeat = repeat(site.graph, query, value, mixed.repeat)?;
    let scale = scale(site.graph, found)?;
    let holds = site.is_read_once(found.run("weights")?)
        && !mixed.transpose_x
        && (key_repeat == value_repeat || key_repeat == 1 || value_repeat == 1)
        && is_along_rows(site.graph, found)?;
    let mask = found.operand("mask");
    let attention = Attention {
        query: 0,
        key: 1,
        value: 2,
        mask: mask.map(|_| 3),
        scale: Some(scale),
        nan_unseen: true,
        key_repeat,
        value_repeat,
    };
    let operands = [query, key, value].into_iter().chain(mask).collect();
    holds.then(|| Replacement::Run(Box::new(attention), operands))
}

/// The operand, or its matrices transposed.
fn turned(site: &mut Site, operand: Operand, transposed: bool) -> Option<Operand> {
    if !transposed {
        return Some(operand);
    }
    let mut sizes = site.graph.dimensions(operand)?;
    let rank = sizes.len();
    let mut axes: SmallVec<[i64; 8]> = (0..i64::try_from(rank).ok()?).collect();
    let row = rank.checked_sub(2)?;
    axes.swap(row, row + 1);
    sizes.swap(row, row + 1);
    let shape = sizes.iter().map(|size| size.map_or(Dimension::Unknown, Dimension::Fixed));
    let declared = TensorType { element: site.graph.kind(operand).0, shape: shape.collect() };
    let name = match operand {
        Operand::Value(value) => site.graph.values[value].name.clone(),
        Operand::Constant(_) => String::new(),
    };
    site.add(Reorder { x: 0, order: Order::Permute(axes) }, vec![operand], &name, declared)
}

/// How many heads of the queries share one of the keys or values, if heads are all that are shared.
fn repeat(graph: &Graph, query: Operand, shared: Operand, repeat: usize) -> Option<usize> {
    let (query, shared) = (graph.dimensions(query)?, graph.dimensions(shared)?);
    let ([of_query @ .., _, _], [of_shared @ .., _, _]) = (&query[..], &shared[..]) else {
        return None;
    };
    let all_known = of_query.iter().chain(of_shared).all(Option::is_some);
    let (Some((heads, outer)), Some((shared, outer_shared))) =
        (of_query.split_last(), of_shared.split_last())
    else {
        return (repeat == 1 && of_query == of_shared).then_some(1);
    };
    let (heads, shared) = ((*heads)?, (*shared)?);
    let times = if shared == 1 && repeat == 1 { heads } else { repeat };
    let holds = all_known && outer == outer_shared && shared.checked_mul(times) == Some(heads);
    (holds && times > 0).then_some(times)
}

/// What products are multiplied by, if that is one number.
fn scale(graph: &Graph, found: &Match) -> Option<f32> {
    match (found.operand("scale"), found.operand("divisor")) {
        (Some(scale), _) => number(graph, scale),
        (None, Some(divisor)) => number(graph, divisor).map(f32::recip),
        (None, None) => Some(1.0),
    }
}

/// Whether `softmax` is along the keys, and of as many numbers as there are products.
fn is_along_rows(graph: &Graph, found: &Match) -> Option<bool> {
    let result = |name: &str| Some(Operand::Value(*found.run(name)?.outputs.first()?));
    let (products, weights) = (result("products")?, result("weights")?);
    let sizes = graph.dimensions(weights)?;
    let rank = i64::try_from(sizes.len()).ok()?;
    let axis = found.op::<Softmax>("weights")?.axis;
    let same_element = graph.kind(products).0 == graph.kind(result("mixed")?).0;
    let same_sizes = sizes == graph.dimensions(products)?;
    Some((axis == -1 || axis == rank - 1) && same_sizes && same_element)
}
