//! Constants of a program as values of the engine, and the forms of weights that plans share.

mod expand;
mod matrix;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coreml_format::mil::{ElementType, Opset, Program, TensorData, TensorType, TensorValue, Value};
use coreml_format::{FormatError, Package};
use half::{bf16, f16};

pub(crate) use self::expand::{
    dense, elements, expand, floats, integer, look_up, marked, shift_scale, spread, unpack,
};
pub(crate) use self::matrix::{matrix, numerics};
use crate::error::OpError;
use crate::limits::Limits;
use crate::value::{
    Buffer, Bytes, Constant, ConstantData, ConstantKey, Shape, Storage, element_count,
};

/// Results that are known when the plan is made.
pub(crate) type Folded = Vec<Constant>;

/// Weights of a package: mapped from its blob files, and what was made of them, once for all plans,
/// functions and sessions.
pub(crate) struct Weights {
    package: Arc<Package>,
    program: Arc<Program>,
    forms: Mutex<HashMap<(ConstantKey, Form), Constant>>,
    expressions: Mutex<HashMap<Expression, Folded>>,
    forms_made: AtomicUsize,
    /// Whether the values of blob files are taken for zeros.
    zeros: bool,
    limits: Limits,
    /// Bytes of what was made.
    made: AtomicUsize,
}

/// A form that a weight is brought into for those who read it. Each is made at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// One element after the other, floats in half precision where the weight has it.
    Dense,
    /// One element after the other, floats in single precision.
    Wide,
}

impl Form {
    /// Bytes that a weight takes in this form.
    fn byte_len(self, constant: &Constant) -> usize {
        let storage = match (self, Storage::natural(constant.element)) {
            (Form::Dense, Some(Storage::F32)) if constant.element == ElementType::Float16 => {
                Storage::F16
            }
            (_, natural) => natural.unwrap_or(Storage::F32),
        };
        storage.byte_len(&constant.shape).unwrap_or(usize::MAX)
    }
}

/// What identifies a constant expression: the operator's version and its arguments.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Expression {
    pub(crate) operator: &'static str,
    pub(crate) since: Opset,
    pub(crate) arguments: Vec<(String, ConstantKey)>,
}

/// A constant of the program can't be had.
pub(crate) enum ConstantError {
    /// Its bytes can't be read.
    Format(FormatError),
    /// The engine has no such values.
    Value(OpError),
}

impl From<OpError> for ConstantError {
    fn from(error: OpError) -> Self {
        ConstantError::Value(error)
    }
}

impl From<FormatError> for ConstantError {
    fn from(error: FormatError) -> Self {
        ConstantError::Format(error)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Weights {
    /// Those of a package with an ML Program.
    pub(crate) fn new(
        package: impl Into<Arc<Package>>,
        limits: Limits,
    ) -> Result<Arc<Self>, FormatError> {
        Self::made(package.into(), limits, false)
    }

    /// Those of a package whose blob files are not opened: their values are zeros.
    pub(crate) fn zeros(
        package: impl Into<Arc<Package>>,
        limits: Limits,
    ) -> Result<Arc<Self>, FormatError> {
        Self::made(package.into(), limits, true)
    }

    fn made(package: Arc<Package>, limits: Limits, zeros: bool) -> Result<Arc<Self>, FormatError> {
        let program = package.program()?.clone();
        Ok(Arc::new(Weights {
            package,
            program,
            forms: Mutex::default(),
            expressions: Mutex::default(),
            forms_made: AtomicUsize::new(0),
            zeros,
            limits,
            made: AtomicUsize::new(0),
        }))
    }

    /// The package that the weights belong to.
    pub(crate) fn package(&self) -> &Package {
        &self.package
    }

    /// The program that they belong to.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// A constant value of the program.
    pub(crate) fn constant(&self, value: &Value) -> Result<Constant, ConstantError> {
        match value {
            Value::Tensor(tensor) => Ok(immediate(tensor)?),
            Value::BlobFile(blob) if self.zeros => Ok(self.zero(&blob.ty)?),
            Value::BlobFile(blob) => {
                let view = self.package.blob_file(&blob.file)?.tensor(blob)?;
                let shape: Shape = blob.ty.fixed_shape().unwrap_or_default().into();
                Ok(from_bytes(blob.ty.element, shape, Bytes::from_blob(view))?)
            }
            // Lists of tensors (e.g. strings of `classify`) are no run-time values.
            _ => Err(OpError::unsupported("a list, tuple or dictionary constant").into()),
        }
    }

    /// A constant of zeros.
    fn zero(&self, ty: &TensorType) -> Result<Constant, OpError> {
        let shape: Shape = ty.fixed_shape().unwrap_or_default().into();
        let count = element_count(&shape).and_then(|count| ty.element.storage_bytes(count));
        let len = count.ok_or_else(OpError::too_large)?;
        self.take(len)?;
        from_bytes(ty.element, shape, Bytes::from_buffer(Buffer::zeroed(len)?))
    }

    /// A constant in another form, made at most once for each weight. (Large immediate values, which
    /// no converter writes, have no identity: they are converted for each plan.)
    pub(crate) fn form(&self, constant: &Constant, form: Form) -> Result<Constant, OpError> {
        let make = || {
            self.forms_made.fetch_add(1, Ordering::Relaxed);
            self.take(form.byte_len(constant))?;
            convert(constant, form)
        };
        let Some(key) = constant.key().map(|key| (key, form)) else { return make() };
        let mut forms = locked(&self.forms);
        if let Some(found) = forms.get(&key) {
            return Ok(found.clone());
        }
        let converted = make()?;
        forms.insert(key, converted.clone());
        Ok(converted)
    }

    /// Notes memory for something that is kept.
    ///
    /// # Errors
    /// When all that is kept takes more than it may.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), OpError> {
        let made = self.made.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.limits.check_memory(made.saturating_add(bytes));
        if taken.is_err() {
            self.made.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// How many times a weight was brought into another form so far.
    pub(crate) fn forms_made(&self) -> usize {
        self.forms_made.load(Ordering::Relaxed)
    }

    /// The value of a constant expression, computed at most once for the same arguments; `None` as
    /// its identity means that it can't be kept.
    pub(crate) fn expression(
        &self,
        expression: Option<Expression>,
        compute: impl FnOnce() -> Result<Folded, OpError>,
    ) -> Result<Folded, OpError> {
        let Some(expression) = expression else {
            let value = compute()?;
            self.take(value.iter().map(Constant::memory).sum())?;
            return Ok(value);
        };
        let mut kept = locked(&self.expressions);
        if let Some(found) = kept.get(&expression) {
            return Ok(found.clone());
        }
        let mut value = compute()?;
        self.take(value.iter().map(Constant::memory).sum())?;
        for (result, constant) in value.iter_mut().enumerate() {
            constant.number(kept.len(), result);
        }
        kept.insert(expression, value.clone());
        Ok(value)
    }
}

fn convert(constant: &Constant, form: Form) -> Result<Constant, OpError> {
    let dense = expand(constant)?;
    match &dense.data {
        ConstantData::Dense(Storage::F16, bytes) if form == Form::Wide => {
            let halves = cast_halves(bytes);
            let mut buffer = Buffer::zeroed(halves.len() * size_of::<f32>())?;
            let floats: &mut [f32] = bytemuck::cast_slice_mut(buffer.bytes_mut());
            for (float, half) in floats.iter_mut().zip(halves.iter()) {
                *float = half.to_f32();
            }
            let bytes = Bytes::from_buffer(buffer);
            Ok(Constant::dense(dense.element, Storage::F32, dense.shape.clone(), bytes))
        }
        _ => Ok(dense),
    }
}

fn cast_halves(bytes: &Bytes) -> Cow<'_, [f16]> {
    match bytemuck::try_cast_slice(bytes.as_slice()) {
        Ok(halves) => Cow::Borrowed(halves),
        Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec::<u8, f16>(bytes.as_slice())),
    }
}

/// An immediate tensor.
fn immediate(tensor: &TensorValue) -> Result<Constant, OpError> {
    let shape: Shape = tensor.ty.fixed_shape().unwrap_or_default().into();
    match &tensor.data {
        TensorData::Strings(strings) => Ok(Constant {
            element: ElementType::String,
            shape,
            data: ConstantData::Strings(strings.clone().into()),
        }),
        TensorData::Bytes(bytes) => {
            let bytes = Bytes::from_buffer(Buffer::copy_of(bytes)?);
            let constant = from_bytes(tensor.ty.element, shape, bytes)?;
            // Immediate values are small: widened at once, no operation meets them as F16.
            if constant.storage() == Some(Storage::F16) {
                convert(&constant, Form::Wide)
            } else {
                Ok(constant)
            }
        }
    }
}

/// A constant from bytes as files hold them.
fn from_bytes(element: ElementType, shape: Shape, bytes: Bytes) -> Result<Constant, OpError> {
    let constant = |data| Constant { element, shape: shape.clone(), data };
    if element.is_sub_byte() {
        return Ok(constant(ConstantData::Packed(bytes)));
    }
    let converted = match element {
        ElementType::BFloat16 => {
            let bits = bytemuck::pod_collect_to_vec::<u8, u16>(bytes.as_slice());
            Some(bits.iter().map(|&bits| bf16::from_bits(bits).to_f32()).collect())
        }
        ElementType::Float8E4M3FN => {
            Some(bytes.as_slice().iter().map(|&bits| float8(bits, 4, 7, false)).collect())
        }
        ElementType::Float8E5M2 => Some(
            bytes.as_slice().iter().map(|&bits| float8(bits, 5, 15, true)).collect::<Vec<f32>>(),
        ),
        _ => None,
    };
    if let Some(floats) = converted {
        let bytes = Bytes::from_buffer(Buffer::copy_of(bytemuck::cast_slice(&floats))?);
        return Ok(constant(ConstantData::Dense(Storage::F32, bytes)));
    }
    let storage = Storage::of_state(element)
        .ok_or_else(|| OpError::unsupported(format!("a constant of type `{element}`")))?;
    // Blobs are aligned to 64 bytes in well-made files; others are copied to be.
    let misaligned = bytes.as_slice().as_ptr().align_offset(storage.size()) != 0;
    let bytes =
        if misaligned { Bytes::from_buffer(Buffer::copy_of(bytes.as_slice())?) } else { bytes };
    Ok(constant(ConstantData::Dense(storage, bytes)))
}

/// An 8-bit float: `E4M3FN` has no infinities and one NaN pattern, `E5M2` follows IEEE 754
/// (Micikevicius et al., "FP8 formats for deep learning", 2022).
fn float8(bits: u8, exponent_bits: u32, bias: i32, infinities: bool) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let sign = if bits & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits & 0x7f) >> mantissa_bits;
    let mantissa = i32::from(bits) & ((1 << mantissa_bits) - 1);
    let top = (1 << exponent_bits) - 1;
    let fraction = mantissa as f32 / (1 << mantissa_bits) as f32;
    if exponent == top && infinities {
        return if mantissa == 0 { sign * f32::INFINITY } else { f32::NAN };
    }
    if exponent == top && mantissa == (1 << mantissa_bits) - 1 {
        return f32::NAN;
    }
    match exponent {
        0 => sign * fraction * 2f32.powi(1 - bias),
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - bias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float8_values_are_those_of_the_paper() {
        // Table 1 of "FP8 formats for deep learning": largest and smallest values of each format.
        assert_eq!(float8(0x7e, 4, 7, false), 448.0);
        assert_eq!(float8(0x01, 4, 7, false), 2f32.powi(-9));
        assert_eq!(float8(0x08, 4, 7, false), 2f32.powi(-6));
        assert!(float8(0x7f, 4, 7, false).is_nan());
        assert_eq!(float8(0x7b, 5, 15, true), 57344.0);
        assert_eq!(float8(0x01, 5, 15, true), 2f32.powi(-16));
        assert_eq!(float8(0xfc, 5, 15, true), f32::NEG_INFINITY);
        assert!(float8(0x7d, 5, 15, true).is_nan());
        assert_eq!(float8(0xb8, 4, 7, false), -1.0);
    }
}
