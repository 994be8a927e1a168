//! `tiny-gguf OUT.gguf [--seed N] [--bytes N]`: writes a model file with random weights; with `--shape NAME` one of the
//! shape of a known model, with holes where its weights would be.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command for people and scripts")]

use std::process::ExitCode;

use corral_testkit::TinyModel;
use corral_testkit::gguf::ShapedModel;

const USAGE: &str = "usage: tiny-gguf OUT.gguf [--seed N] [--bytes N] | OUT.gguf --shape NAME";

fn main() -> ExitCode {
    let Some((path, model)) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let written = match model {
        Model::Tiny(model) => model.write(&path),
        Model::Shaped(model) => model.write(&path),
    };
    match written {
        Ok(size) => {
            println!("{path}: {size} bytes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tiny-gguf: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Model {
    Tiny(TinyModel),
    Shaped(ShapedModel),
}

fn parse(mut args: impl Iterator<Item = String>) -> Option<(String, Model)> {
    let (mut path, mut seed, mut bytes, mut shape) = (None, 0, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = args.next()?.parse().ok()?,
            "--bytes" => bytes = Some(args.next()?.parse().ok()?),
            "--shape" => shape = Some(ShapedModel::named(&args.next()?)?),
            _ if arg.starts_with('-') || path.is_some() => return None,
            _ => path = Some(arg),
        }
    }
    let tiny = TinyModel { pad_to_bytes: bytes, ..TinyModel::new(seed) };
    Some((path?, shape.map_or(Model::Tiny(tiny), Model::Shaped)))
}
