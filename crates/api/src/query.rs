//! What stands behind the question mark.

use corral_core::catalog::nearest;

use crate::failure::Failure;
use crate::quote::quoted;

/// The parameters of a query, decoded, each known to the route.
pub(crate) fn parameters(path: &str, query: &str, known: &[&str]) -> Result<Vec<(String, String)>, Failure> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        if known.contains(&name.as_str()) {
            return Ok((name, decoded(value)));
        }
        let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let hint = nearest(&name, known.iter().copied()).map_or_else(
            || format!("there {} {list}", if known.len() == 1 { "is" } else { "are" }),
            |meant| format!("did you mean `{meant}`?"),
        );
        Err(Failure::invalid(format!("{path} has no parameter {}", quoted(&name)), hint))
    });
    pairs.collect()
}

/// A parameter that is yes or no; alone it is yes.
pub(crate) fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => {
            let message = format!("`{name}` is {}, neither yes nor no", quoted(value));
            Err(Failure::invalid(message, format!("{name}=1 or {name}=0")))
        }
    }
}

/// The text with `%3A` and the like resolved. A `+` stays one: it occurs in times, and a space does not.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_known() {
        let read = |query: &str| parameters("/usage", query, &["by", "since"]).ok();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("by=day&&since=1%3a2%3A+%zz%"), Some(vec![pair("by", "day"), pair("since", "1:2:+%zz%")]));
        assert_eq!(read("by"), Some(vec![pair("by", "")]));
        assert_eq!(read("on=day"), None);
    }
}
