//! Matrices that lie strided in slices.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use crate::arch;
use crate::context::{Shared, Workers};
use crate::error::{KernelError, check_distinct, check_strided};
use crate::isa::Isa;
use crate::thresholds;

/// A matrix in a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`. The slice may
/// hold more than the matrix, before its strides' next step or after its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix<'a, T> {
    /// The elements, from `(0, 0)` on.
    pub data: &'a [T],
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A matrix whose rows follow each other without gaps.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same elements, with rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Fails if the slice ends before the matrix does.
    pub(crate) fn check(
        &self,
        kernel: &'static str,
        argument: &'static str,
    ) -> Result<(), KernelError> {
        let dims = [(self.rows, self.row_stride), (self.cols, self.col_stride)];
        check_strided(kernel, argument, &dims, self.data.len())
    }

    /// Writes the rows one after the other.
    pub(crate) fn copy_to(&self, out: &mut [T]) {
        for (i, row) in out.chunks_exact_mut(self.cols.max(1)).take(self.rows).enumerate() {
            for (j, to) in row.iter_mut().enumerate() {
                *to = self.data[i * self.row_stride + j * self.col_stride];
            }
        }
    }

    /// The same matrix further on in the slice; beyond its end, in an empty one.
    pub(crate) fn offset(self, by: usize) -> Self {
        Self { data: self.data.get(by..).unwrap_or(&[]), ..self }
    }

    /// `count` rows from `first` on.
    pub(crate) fn rows_from(self, first: usize, count: usize) -> Self {
        Self { rows: count, ..self.offset(first.saturating_mul(self.row_stride)) }
    }
}

/// A matrix in a slice that a kernel writes, laid out as [`Matrix`].
#[derive(Debug, PartialEq)]
pub struct MatrixMut<'a> {
    /// The elements, from `(0, 0)` on.
    pub data: &'a mut [f32],
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A matrix whose rows follow each other without gaps.
    pub fn row_major(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same elements, with rows for columns.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// A checked matrix of distinct elements, or some rows of one: what a task writes.
pub(crate) struct Block<'a> {
    start: *mut f32,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
    elements: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is the only way to its elements, as a mutable slice would be.
unsafe impl Send for Block<'_> {}

impl<'a> Block<'a> {
    /// Checks that the slice holds the matrix and that no two elements of this coincide.
    pub(crate) fn new(kernel: &'static str, c: MatrixMut<'a>) -> Result<Self, KernelError> {
        let (rows, cols) = ((c.rows, c.row_stride), (c.cols, c.col_stride));
        check_strided(kernel, "c", &[rows, cols], c.data.len())?;
        check_distinct(kernel, "c", rows, cols)?;
        let MatrixMut { data, rows, cols, row_stride, col_stride } = c;
        let start = data.as_mut_ptr();
        Ok(Self { start, rows, cols, row_stride, col_stride, elements: PhantomData })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0 || self.cols == 0
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The address of element `(0, 0)`, for kernels that go by strides themselves.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start
    }

    /// Writes one element.
    ///
    /// # Panics
    /// If it lies beyond the matrix.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, col: usize, value: f32) {
        assert!(row < self.rows && col < self.cols, "an element of the matrix");
        // SAFETY: the element is one of the matrix, all of which lie within the slice.
        unsafe { *self.start.add(row * self.row_stride + col * self.col_stride) = value }
    }

    /// Writes `values[i]` to all of row `i`.
    pub(crate) fn fill_rows(&mut self, values: &[f32]) {
        for (row, &value) in values.iter().enumerate() {
            self.part(row..row + 1, 0..self.cols).fill(value);
        }
    }

    /// Adds `values[i]` to all of row `i`.
    pub(crate) fn add_to_rows(&mut self, values: &[f32]) {
        assert!(values.len() <= self.rows, "a value for each row");
        for (row, &value) in values.iter().enumerate() {
            for col in 0..self.cols {
                // SAFETY: the element is one of the matrix, all of which lie within the slice.
                unsafe { *self.start.add(row * self.row_stride + col * self.col_stride) += value }
            }
        }
    }

    /// Some rows and columns of the same matrix, for a while.
    ///
    /// # Panics
    /// If they lie beyond it.
    pub(crate) fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> Block<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows of the matrix");
        assert!(cols.start <= cols.end && cols.end <= self.cols, "columns of the matrix");
        let by = rows.start * self.row_stride + cols.start * self.col_stride;
        let empty = rows.is_empty() || cols.is_empty();
        // SAFETY: the first element of the part lies within the slice; without any, nothing is moved.
        let start = if empty { self.start } else { unsafe { self.start.add(by) } };
        Block { start, rows: rows.len(), cols: cols.len(), ..self.reborrow() }
    }

    /// Copies a matrix of the same size.
    ///
    /// # Panics
    /// If it has another size, or does not lie within its slice.
    pub(crate) fn copy_from(&mut self, isa: Isa, from: Matrix<f32>) {
        assert!((self.rows, self.cols) == (from.rows, from.cols), "a matrix of the same size");
        if self.row_stride == 1 && self.col_stride != 1 {
            return self.reborrow().transposed().copy_from(isa, from.transposed());
        }
        if self.col_stride == 1 && from.col_stride == 1 {
            for row in 0..self.rows {
                let source = &from.offset(row * from.row_stride).data[..from.cols];
                if let Some(to) = self.row_mut(row) {
                    to.copy_from_slice(source);
                }
            }
            return;
        }
        let turned = self.col_stride == 1 && from.row_stride == 1;
        let (cols, rows) = match turned {
            true => arch::transpose(isa, from.transposed(), &mut self.reborrow().transposed()),
            false => (0, 0),
        };
        for row in 0..self.rows {
            let done = if row < rows { cols } else { 0 };
            for col in done..self.cols {
                self.set(row, col, from.data[row * from.row_stride + col * from.col_stride]);
            }
        }
    }

    /// The same matrix, for a while.
    pub(crate) fn reborrow(&mut self) -> Block<'_> {
        Block { elements: PhantomData, ..*self }
    }

    /// Writes `value` everywhere.
    pub(crate) fn fill(&mut self, value: f32) {
        for row in 0..self.rows {
            match self.row_mut(row) {
                Some(row) => row.fill(value),
                None => (0..self.cols).for_each(|col| self.set(row, col, value)),
            }
        }
    }

    /// A row, if its elements lie next to each other.
    pub(crate) fn row_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        if row >= self.rows || (self.col_stride != 1 && self.cols > 1) {
            return None;
        }
        // SAFETY: as for a column.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.cols)
        })
    }

    /// A column, if its elements lie next to each other.
    pub(crate) fn column_mut(&mut self, col: usize) -> Option<&mut [f32]> {
        if col >= self.cols || (self.row_stride != 1 && self.rows > 1) {
            return None;
        }
        // SAFETY: the column's elements are neighbours within the slice, and the slice made of
        // them borrows the block.
        let column = unsafe {
            std::slice::from_raw_parts_mut(self.start.add(col * self.col_stride), self.rows)
        };
        Some(column)
    }

    /// Calls `task` with every block of `count` rows (the last may have fewer) and the number of
    /// its first row, in parallel if workers are given.
    ///
    /// # Errors
    /// One of the tasks' errors.
    pub(crate) fn try_for_each_rows(
        self,
        workers: Option<&Workers>,
        count: usize,
        task: impl Fn(usize, Block) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let (start, count) = (Shared(self.start), count.max(1));
        let (rows, cols) = (self.rows, self.cols);
        let (row_stride, col_stride) = (self.row_stride, self.col_stride);
        let run = |index: usize| {
            let first = index * count;
            // SAFETY: the rows are some of the matrix, within the slice. No index is run twice, so
            // that no two blocks share an element, and all have been before `self` ends.
            let start = unsafe { start.get().add(first * row_stride) };
            let rows = count.min(rows - first);
            task(first, Block { start, rows, cols, row_stride, col_stride, elements: PhantomData })
        };
        let tasks = rows.div_ceil(count);
        match workers {
            Some(workers) => workers.try_for_each(tasks, run),
            None => (0..tasks).try_for_each(run),
        }
    }
}

/// Fails unless `a` times `b` is as large as `c`.
pub(crate) fn check_product<T>(
    kernel: &'static str,
    a: &Matrix<f32>,
    b: &Matrix<T>,
    c: (usize, usize),
) -> Result<(), KernelError> {
    let sizes = [("b.rows", a.cols, b.rows), ("c.rows", a.rows, c.0), ("c.cols", b.cols, c.1)];
    match sizes.into_iter().find(|(_, expected, got)| expected != got) {
        Some((argument, expected, got)) => Err(KernelError::value(kernel, argument, expected, got)),
        None => Ok(()),
    }
}

/// How the products that make an element of a result are summed up. Rounding hangs on this alone:
/// strides, threads and the other elements of the result change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As sixteen sums of every sixteenth product, of which the upper half is added to the lower
    /// half until one is left. Fast for few rows, which are read as they lie.
    Lanes,
    /// One after the other, and blocks of 512 one after the other. Fast for many rows, which are
    /// arranged for tiles of registers first.
    Chain,
}

impl Order {
    /// The faster one for a result of so many rows and columns, each element of which is the sum of
    /// `depth` products, of matrices in single precision.
    pub fn of_floats(rows: usize, cols: usize, depth: usize) -> Self {
        let few = rows.min(cols) <= thresholds::LANE_ROWS || depth == 1;
        if few { Self::Lanes } else { Self::Chain }
    }

    /// The faster one for a result of so many rows, with a matrix in half precision, which
    /// [`Order::Chain`] has to widen.
    pub fn of_halves(rows: usize) -> Self {
        if rows <= thresholds::LANE_ROWS_F16 { Self::Lanes } else { Self::Chain }
    }
}

/// Where the matrices of many products of one size start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchStrides {
    /// The number of products.
    pub count: usize,
    /// Elements between the matrices `a`.
    pub a: usize,
    /// Elements between the matrices `b`.
    pub b: usize,
    /// Consecutive products that share a matrix `b`: query heads per key-value head.
    pub b_repeat: usize,
    /// Elements between the matrices `c`; each ends before the next one starts.
    pub c: usize,
}

/// The operands of a batch; the matrices describe the first product, their slices hold all.
pub(crate) struct Batch<'a, T> {
    pub(crate) kernel: &'static str,
    pub(crate) strides: BatchStrides,
    pub(crate) a: Matrix<'a, f32>,
    pub(crate) b: Matrix<'a, T>,
}

/// How many threads a product may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling one: others are busy with other products.
    One,
    /// All.
    All,
}

impl<T: Copy + Sync> Batch<'_, T> {
    /// Calls `multiply` for every product: for several at a time if there are enough of them and
    /// the whole is more than `threshold` multiplications, else for one after the other.
    pub(crate) fn each(
        &self,
        workers: &Workers,
        threshold: usize,
        c: MatrixMut,
        multiply: impl Fn(Threads, Matrix<f32>, Matrix<T>, Block) -> Result<(), KernelError> + Sync,
    ) -> Result<(), KernelError> {
        self.check(&c)?;
        let BatchStrides { count, b_repeat, .. } = self.strides;
        if count == 0 || c.rows == 0 || c.cols == 0 {
            return Ok(());
        }
        let MatrixMut { data, rows, cols, row_stride, col_stride } = c;
        let run = |threads: Threads, i: usize, data: &mut [f32]| {
            let a = self.a.offset(i.saturating_mul(self.strides.a));
            let b = self.b.offset((i / b_repeat).saturating_mul(self.strides.b));
            let c = MatrixMut { data, rows, cols, row_stride, col_stride };
            multiply(threads, a, b, Block::new(self.kernel, c)?)
        };
        let step = if count == 1 { data.len() } else { self.strides.c };
        let work = [rows, cols, self.a.cols].into_iter().fold(count, usize::saturating_mul);
        if work >= threshold && count >= workers.threads() {
            let end = data.len().min(step.saturating_mul(count));
            return workers
                .try_for_each_chunk_mut(&mut data[..end], step, |i, c| run(Threads::One, i, c));
        }
        let mut matrices = data.chunks_mut(step).take(count).enumerate();
        matrices.try_for_each(|(i, c)| run(Threads::All, i, c))
    }

    fn check(&self, c: &MatrixMut) -> Result<(), KernelError> {
        let Self { kernel, strides, a, b } = self;
        if strides.b_repeat == 0 {
            return Err(KernelError::value(kernel, "b_repeat", "at least 1", 0));
        }
        check_product(kernel, a, b, (c.rows, c.cols))?;
        let shared = strides.count.div_ceil(strides.b_repeat);
        let dims = [(strides.count, strides.a), (a.rows, a.row_stride), (a.cols, a.col_stride)];
        check_strided(kernel, "a", &dims, a.data.len())?;
        let dims = [(shared, strides.b), (b.rows, b.row_stride), (b.cols, b.col_stride)];
        check_strided(kernel, "b", &dims, b.data.len())?;
        let one = [(c.rows, c.row_stride), (c.cols, c.col_stride)];
        check_strided(kernel, "c", &[(strides.count, strides.c), one[0], one[1]], c.data.len())?;
        let apart = strides.c > 0 && check_strided(kernel, "c", &one, strides.c).is_ok();
        if strides.count > 1 && c.rows > 0 && c.cols > 0 && !apart {
            let expected = "at least the extent of one matrix `c`";
            return Err(KernelError::value(kernel, "batch stride of `c`", expected, strides.c));
        }
        Ok(())
    }
}
