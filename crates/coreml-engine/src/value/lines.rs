//! Lines of a tensor along one of its axes.

use super::count;

/// The lines along an axis of a dense tensor: `outer · inner` of them, each of `size` elements that
/// lie `inner` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Elements of the axes before, multiplied.
    pub(crate) outer: usize,
    /// Elements of the axis.
    pub(crate) size: usize,
    /// Elements of the axes behind, multiplied: the distance between neighbours of a line.
    pub(crate) inner: usize,
}

impl Lines {
    /// The lines along `axis`, which is one of the shape's.
    pub(crate) fn along(shape: &[usize], axis: usize) -> Self {
        Lines { outer: count(&shape[..axis]), size: shape[axis], inner: count(&shape[axis + 1..]) }
    }

    /// Number of lines.
    pub(crate) fn count(&self) -> usize {
        self.outer.saturating_mul(self.inner)
    }

    /// Number of elements.
    pub(crate) fn elements(&self) -> usize {
        self.count().saturating_mul(self.size)
    }

    /// Where the first element of line `line` lies.
    pub(crate) fn start(&self, line: usize) -> usize {
        line / self.inner * self.size * self.inner + line % self.inner
    }

    /// The elements of line `line`, in order, of as many values as [`Lines::elements`] says.
    pub(crate) fn line<'a, T>(
        &self,
        values: &'a [T],
        line: usize,
    ) -> impl Iterator<Item = &'a T> + Clone {
        values
            .get(self.start(line)..)
            .unwrap_or_default()
            .iter()
            .step_by(self.inner.max(1))
            .take(self.size)
    }

    /// The elements of line `line`, to write.
    pub(crate) fn line_mut<'a, T>(
        &self,
        values: &'a mut [T],
        line: usize,
    ) -> impl Iterator<Item = &'a mut T> {
        values
            .get_mut(self.start(line)..)
            .unwrap_or_default()
            .iter_mut()
            .step_by(self.inner.max(1))
            .take(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_indexing_gives() {
        let shape = [2, 3, 4];
        let values: Vec<usize> = (0..24).collect();
        for axis in 0..3 {
            let lines = Lines::along(&shape, axis);
            assert_eq!(lines.elements(), 24);
            let mut others: Vec<[usize; 3]> = Vec::new();
            for i in 0..2 {
                for j in 0..3 {
                    for k in 0..4 {
                        let index = [i, j, k];
                        if index[axis] == 0 {
                            others.push(index);
                        }
                    }
                }
            }
            assert_eq!(lines.count(), others.len());
            for (number, first) in others.iter().enumerate() {
                let expected: Vec<usize> = (0..shape[axis])
                    .map(|at| {
                        let mut index = *first;
                        index[axis] = at;
                        index[0] * 12 + index[1] * 4 + index[2]
                    })
                    .collect();
                let got: Vec<usize> = lines.line(&values, number).copied().collect();
                assert_eq!(got, expected, "axis {axis}, line {number}");
            }
        }
    }
}
