//! Which plan serves which input shapes.
//!
//! A fixed plan is made for one set of shapes and knows all sizes. A free plan leaves open what the
//! program leaves open and serves all shapes: a language model whose mask grows with each token, say,
//! needs no planning per token. Shapes that come again and again get a plan of their own.

use std::collections::VecDeque;

use crate::value::Shape;

/// Fixed plans that are kept; the least recently used one goes.
const MOST_FIXED: usize = 32;

/// Fixed plans that are made before any free one.
const FIRST_FIXED: usize = 2;

/// Calls that are looked back on.
const LOOK_BACK: usize = 64;

/// Calls among these after which shapes get a plan of their own. Planning costs as much as some calls
/// do, and several sessions that grow in step make each shape come several times, but no more.
const OFTEN: usize = 16;

/// The plans of a function.
pub(super) struct Plans<P> {
    /// By their shapes, the most recently used last.
    fixed: Vec<(Vec<Shape>, P)>,
    free: Free<P>,
    /// The shapes of the last calls that had no plan of their own.
    last: VecDeque<Vec<Shape>>,
    made: usize,
}

enum Free<P> {
    /// The function's shapes are fixed, or no such plan can be made.
    None,
    NotYet,
    Plan(P),
}

/// What to do for a call.
pub(super) enum Choice<P> {
    Have(P),
    MakeFixed,
    MakeFree,
}

impl<P: Clone> Plans<P> {
    /// No plans yet, of a function some of whose sizes are flexible or of one with fixed sizes.
    pub(super) fn new(flexible: bool) -> Self {
        let free = if flexible { Free::NotYet } else { Free::None };
        Plans { fixed: Vec::new(), free, last: VecDeque::new(), made: 0 }
    }

    /// How many plans were made.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// Notes a call with these shapes, unless they have a plan of their own.
    pub(super) fn note(&mut self, shapes: &[Shape]) {
        if self.fixed.iter().any(|(of, _)| of == shapes) {
            return;
        }
        // The memory of the oldest call takes the newest.
        let oldest = if self.last.len() < LOOK_BACK { None } else { self.last.pop_front() };
        let mut newest = oldest.unwrap_or_default();
        newest.clear();
        newest.extend_from_slice(shapes);
        self.last.push_back(newest);
    }

    /// The plan for a call with these shapes, or which one to make.
    pub(super) fn choose(&mut self, shapes: &[Shape]) -> Choice<P> {
        if let Some(found) = self.fixed.iter().position(|(of, _)| of == shapes) {
            let used = self.fixed.remove(found);
            let plan = used.1.clone();
            self.fixed.push(used);
            return Choice::Have(plan);
        }
        let early = self.fixed.len() < FIRST_FIXED;
        if early || matches!(self.free, Free::None) || self.come_often(shapes) {
            return Choice::MakeFixed;
        }
        match &self.free {
            Free::Plan(plan) => Choice::Have(plan.clone()),
            _ => Choice::MakeFree,
        }
    }

    /// Whether calls with these shapes were frequent of late.
    fn come_often(&self, shapes: &[Shape]) -> bool {
        self.last.iter().filter(|last| last.as_slice() == shapes).count() >= OFTEN
    }

    /// Keeps a fixed plan in the place of the least recently used one.
    pub(super) fn add_fixed(&mut self, shapes: &[Shape], plan: P) -> P {
        self.made += 1;
        if self.fixed.len() == MOST_FIXED {
            self.fixed.remove(0);
        }
        self.fixed.push((shapes.to_vec(), plan.clone()));
        plan
    }

    /// Keeps the free plan.
    pub(super) fn set_free(&mut self, plan: P) -> P {
        self.made += 1;
        self.free = Free::Plan(plan.clone());
        plan
    }

    /// Notes that no free plan can be made.
    pub(super) fn no_free(&mut self) {
        self.free = Free::None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(size: usize) -> Vec<Shape> {
        vec![Shape::from_slice(&[1, size])]
    }

    /// Calls with shapes of a size; gives the plan that served: 0 for the free one, else its size.
    fn call(plans: &mut Plans<usize>, size: usize) -> usize {
        plans.note(&shapes(size));
        match plans.choose(&shapes(size)) {
            Choice::Have(plan) => plan,
            Choice::MakeFixed => plans.add_fixed(&shapes(size), size),
            Choice::MakeFree => plans.set_free(0),
        }
    }

    #[test]
    fn growing_shapes_need_one_free_plan() {
        let mut plans = Plans::new(true);
        let served: Vec<usize> = (1..100).map(|size| call(&mut plans, size)).collect();
        assert_eq!(served[..2], [1, 2]);
        assert!(served[2..].iter().all(|&plan| plan == 0));
        assert_eq!(plans.made(), 3);
    }

    #[test]
    fn shapes_that_come_often_get_their_own_plan() {
        let mut plans = Plans::new(true);
        (1..10).for_each(|size| {
            call(&mut plans, size);
        });
        let served: Vec<usize> = (0..OFTEN).map(|_| call(&mut plans, 7)).collect();
        assert_eq!(served[OFTEN - 1], 7, "{served:?}");
    }

    #[test]
    fn sessions_that_grow_in_step_need_one_free_plan() {
        let mut plans = Plans::new(true);
        (1..100).for_each(|size| {
            (0..OFTEN / 2).for_each(|_| {
                call(&mut plans, size);
            });
        });
        assert_eq!(plans.made(), 3);
    }

    #[test]
    fn the_least_recently_used_plan_goes() {
        let mut plans = Plans::new(false);
        (0..MOST_FIXED).for_each(|size| {
            call(&mut plans, size);
        });
        call(&mut plans, 0);
        call(&mut plans, 1000);
        let made = plans.made();
        call(&mut plans, 0);
        assert_eq!(plans.made(), made, "0 was used after 1 and stays");
        call(&mut plans, 1);
        assert_eq!(plans.made(), made + 1, "1 has gone");
    }
}
