//! `compile` and `decompile`: models in other forms.

use std::path::Path;

use anyhow::Result;
use candle_coreml::{Package, compile, decompile};
use coreml_format::printable_path;

use crate::args::{CompileArgs, DecompileArgs};
use crate::term;

/// Compiles a model.
pub fn run(args: &CompileArgs) -> Result<()> {
    compile(&Package::open(&args.model)?, &args.out, args.force.if_exists())?;
    wrote(&args.out);
    Ok(())
}

/// Makes a package of a compiled model.
pub fn run_back(args: &DecompileArgs) -> Result<()> {
    decompile(&Package::open(&args.model)?, &args.out, args.force.if_exists())?;
    wrote(&args.out);
    Ok(())
}

fn wrote(out: &Path) {
    term::tell(format_args!("wrote {}", printable_path(out)));
}
