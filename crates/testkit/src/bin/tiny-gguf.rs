//! `tiny-gguf OUT.gguf [--seed N] [--bytes N]`: writes a model file with random weights.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a command for people and scripts")]

use std::process::ExitCode;

use corral_testkit::TinyModel;

const USAGE: &str = "usage: tiny-gguf OUT.gguf [--seed N] [--bytes N]";

fn main() -> ExitCode {
    let Some((path, model)) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match model.write(&path) {
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

fn parse(mut args: impl Iterator<Item = String>) -> Option<(String, TinyModel)> {
    let (mut path, mut seed, mut bytes) = (None, 0, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = args.next()?.parse().ok()?,
            "--bytes" => bytes = Some(args.next()?.parse().ok()?),
            _ if arg.starts_with('-') || path.is_some() => return None,
            _ => path = Some(arg),
        }
    }
    Some((path?, TinyModel { pad_to_bytes: bytes, ..TinyModel::new(seed) }))
}
