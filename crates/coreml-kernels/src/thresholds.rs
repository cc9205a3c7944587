//! From where on work is divided, and into what pieces: the numbers that all kernels go by.
//!
//! Handing a task to another thread and waiting for it costs some microseconds, so a call must
//! last several times as long before it is divided. The thresholds count what the kernel's time
//! depends on: values, weights or multiplications.

/// Values of an elementwise function: at one to four a nanosecond, 15 to 60 microseconds.
pub(crate) const ELEMENTWISE: usize = 1 << 16;

/// Values of a conversion, which is bound by memory.
pub(crate) const CONVERSION: usize = 1 << 17;

/// Values of a softmax, of which each takes an exponential and two more passes.
pub(crate) const SOFTMAX: usize = 1 << 15;

/// Values of a normalisation: three passes of simple arithmetic.
pub(crate) const NORM: usize = 1 << 16;

/// Values of a normalisation over neighbouring channels, of which each takes a power.
pub(crate) const RESPONSE: usize = 1 << 13;

/// Weights of a matrix-vector product or an expansion, which come from memory.
pub(crate) const WEIGHTS: usize = 1 << 17;

/// Weights that a task of such a product takes: enough that loading a table does not show, few
/// enough that threads end together.
pub(crate) const TASK_WEIGHTS: usize = 1 << 16;

/// Multiplications of one product of matrices, at 10 (few rows) to 50 a nanosecond.
pub(crate) const GEMM: usize = 1 << 19;

/// Multiplications of a batch of products of few rows with a matrix each, which are bound by memory.
pub(crate) const FEW_ROWS: usize = 1 << 17;

/// Multiplications of a convolution with few filters per channel.
pub(crate) const DEPTHWISE: usize = 1 << 17;

/// Elements under the windows of a pooling, joined by vectors.
pub(crate) const POOL: usize = 1 << 17;

/// Filters over one channel from which on it is unfolded for them.
pub(crate) const SHARED_CHANNEL: usize = 8;

/// Taps of filters over one channel that are expanded at a time, and make a task: 32 KB.
pub(crate) const FILTERS: usize = 1 << 13;

/// Values of a channel that are laid out at a time, with their padding: 32 KB, which the nearest cache holds.
pub(crate) const PHASES: usize = 1 << 13;

/// Values of an unfolded input, which are copied.
pub(crate) const UNFOLD: usize = 1 << 17;

/// Elements of a compressed constant that is made plain.
pub(crate) const DECOMPRESS: usize = 1 << 17;

/// Values of a resized tensor, of which each is looked up twice.
pub(crate) const RESIZE: usize = 1 << 16;

/// Values that are sampled at any places: four look-ups each.
pub(crate) const SAMPLE: usize = 1 << 15;

/// Columns that are multiplied one by one, straight from compressed weights: expanding the weights
/// costs as much as so many.
pub(crate) const FEW_COLUMNS: usize = 3;

/// Columns up to which each row of the weights is multiplied with all of them, while it is in registers or
/// the nearest cache: fewer fill no tile of registers of a product of matrices.
pub(crate) const SOME_COLUMNS: usize = 8;

/// Rows, or columns, up to which a product is computed row by row from the matrix as it lies.
pub(crate) const LANE_ROWS: usize = 3;

/// The same for a half-precision matrix, which would have to be widened first.
pub(crate) const LANE_ROWS_F16: usize = 8;

/// Weights that are expanded at a time before they are multiplied: 128 KB, which caches of the
/// second level hold.
pub(crate) const EXPANDED: usize = 1 << 15;

/// Rows that are expanded at a time for each column they are multiplied with, if that is more: so
/// many that arranging the columns for each block of rows does not show.
pub(crate) const ROWS_PER_COLUMN: usize = 16;

/// The most weights that are expanded at a time: 1 MB.
pub(crate) const MOST_EXPANDED: usize = 1 << 18;

/// Panels of columns that each thread has at least, where these are divided and not the rows.
pub(crate) const PANELS: usize = 4;

/// Values of columns that are arranged in panels at a time, where rows are divided: 4 MB.
pub(crate) const PACKED: usize = 1 << 20;

/// The same where columns are divided: 512 KB, which caches of the second level hold.
pub(crate) const COLUMNS_AT_HAND: usize = 1 << 17;

/// Values of rows that are multiplied with one panel after the other: 512 KB, likewise.
pub(crate) const ROWS_AT_HAND: usize = 1 << 17;

/// Rows of such a product at least and at most: enough to fill tiles of registers, and few enough for what
/// the CPU remembers of pages.
pub(crate) const TILE_ROWS: (usize, usize) = (24, 192);

/// Rows and columns from which on their products are faster as integers.
pub(crate) const WORDS: (usize, usize) = (256, 32);

/// Rows that are expanded at a time before they become integers: a near cache holds them.
pub(crate) const WORD_ROWS: usize = 8;

/// Rows of a product that are worth a task: smaller pieces fill no tile of registers.
pub(crate) const GEMM_ROWS: usize = 16;

/// Unfolded input values of a convolution that are laid out at a time: 1 MB, which caches of the second
/// level hold.
pub(crate) const UNFOLDED: usize = 1 << 18;

/// Rows of a transposed convolution's product, before they are folded, that a task takes at least and
/// at most: enough to fill tiles of registers, few enough for a cache of the second level.
pub(crate) const FOLD_ROWS: (usize, usize) = (64, 512);

/// Values of such a product that are computed at a time: 1 MB.
pub(crate) const FOLDED: usize = 1 << 18;

/// Work of a task, where whole calls are divided from `threshold` on: a quarter, as that is still
/// long against the cost of a task.
pub(crate) const fn task(threshold: usize) -> usize {
    threshold / 4
}
