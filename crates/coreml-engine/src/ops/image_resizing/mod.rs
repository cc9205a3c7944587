//! Operations that give images another size, or take parts of them.

mod crop;
mod crop_resize;
mod resample;
mod resize;
mod sampling;

use coreml_format::mil::Opset;

use crate::op::{OpDef, def};

pub(super) const OPS: &[OpDef] = &[
    def("affine", Opset::Ios15, resample::affine),
    def("crop", Opset::Ios15, crop::crop),
    def("crop_resize", Opset::Ios15, crop_resize::crop_resize),
    def("crop_resize", Opset::Ios16, crop_resize::crop_resize),
    def("crop_resize", Opset::Ios17, crop_resize::crop_resize_ios17),
    def("resample", Opset::Ios15, resample::resample),
    def("resample", Opset::Ios16, resample::resample),
    def("resample", Opset::Ios17, resample::resample),
    def("resize", Opset::Ios17, resize::resize),
    def("resize_bilinear", Opset::Ios15, resize::resize_bilinear),
    def("resize_nearest_neighbor", Opset::Ios15, resize::resize_nearest_neighbor),
    def("upsample_bilinear", Opset::Ios15, resize::upsample_bilinear),
    def("upsample_bilinear", Opset::Ios16, resize::upsample_bilinear),
    def("upsample_nearest_neighbor", Opset::Ios15, resize::upsample_nearest_neighbor),
];
