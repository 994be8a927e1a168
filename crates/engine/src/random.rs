//! Names and keys that nobody can guess.

use corral_core::{Code, Error, Result};

/// `N` random bytes in hexadecimal.
pub(crate) fn hex<const N: usize>() -> Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(Code::Io, "the system gives no random numbers")
            .because(error)
            .hint("a sandbox around Corral must allow the system call `getrandom`")
    })?;
    Ok(bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same() {
        let [one, other] = [hex::<32>().unwrap(), hex::<32>().unwrap()];
        assert_ne!(one, other);
        assert!(one.len() == 64 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    }
}
