//! `settings.toml`: what the app itself writes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::usage::JOULES_PER_KWH;

/// The settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What becomes of the loaded model when Corral ends.
    pub on_quit: OnQuit,
    /// The terminal that a local Claude opens in; without it, the desktop's, or the first that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSetting>,
    /// What the desktop is told of.
    pub notifications: Notifications,
    /// When Corral is launched at login, load the model again that last served.
    pub restore_last: bool,
    /// What a kilowatt-hour costs, so that usage is shown with what its energy cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub electricity_price: Option<ElectricityPrice>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on_quit: OnQuit::default(),
            terminal: None,
            notifications: Notifications::default(),
            restore_last: true,
            electricity_price: None,
        }
    }
}

/// What the desktop is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Notifications {
    /// Everything that ends, well or not.
    #[default]
    All,
    /// What went wrong.
    Problems,
    /// Nothing.
    None,
}

/// What becomes of the loaded model when Corral ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnQuit {
    /// It is stopped.
    #[default]
    Stop,
    /// It goes on running; the next start of Corral adopts it.
    Keep,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a terminal is a name, a path, or a list of a program and its options")]
pub enum TerminalSetting {
    /// Its name, or its absolute path: `"kitty"`.
    Name(String),
    /// A program and its options; the command to run follows them. `{title}` and `{folder}` at the end of an option
    /// stand for the window's title and the folder to start in: `["xterm", "-fa", "Mono", "-T", "{title}", "-e"]`.
    Command(Vec<String>),
}

/// What a kilowatt-hour costs; written as a number and a currency: `"0.32 EUR"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ElectricityPrice {
    per_kwh: f64,
    currency: String,
}

/// A currency is a short word or sign.
const CURRENCY: usize = 8;

/// More than any currency asks.
const MOST: f64 = 1e9;

impl ElectricityPrice {
    /// What so many joules cost, in the currency.
    pub fn of(&self, joules: f64) -> f64 {
        joules / JOULES_PER_KWH * self.per_kwh
    }

    /// The currency, as the user writes it; may be empty.
    pub fn currency(&self) -> &str {
        &self.currency
    }
}

impl FromStr for ElectricityPrice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, currency) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let currency = currency.trim();
        let per_kwh = number.parse::<f64>().ok().filter(|price| (0.0..=MOST).contains(price));
        let currency_fits = currency.chars().count() <= CURRENCY && !currency.contains(|c: char| c.is_control());
        match per_kwh {
            Some(per_kwh) if currency_fits => Ok(Self { per_kwh, currency: currency.to_owned() }),
            _ => Err("the price of a kilowatt-hour is a number and a currency, as in \"0.32 EUR\"".to_owned()),
        }
    }
}

impl TryFrom<String> for ElectricityPrice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ElectricityPrice> for String {
    fn from(price: ElectricityPrice) -> Self {
        price.to_string()
    }
}

impl fmt::Display for ElectricityPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_kwh)?;
        if self.currency.is_empty() { Ok(()) } else { write!(f, " {}", self.currency) }
    }
}

impl JsonSchema for ElectricityPrice {
    fn schema_name() -> Cow<'static, str> {
        "ElectricityPrice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "What a kilowatt-hour costs: a number and a currency, as in `0.32 EUR`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_number_and_a_currency() {
        for (text, written) in [("0.32 EUR", "0.32 EUR"), ("  30  ct ", "30 ct"), ("0.3", "0.3"), ("0 €", "0 €")] {
            assert_eq!(text.parse::<ElectricityPrice>().unwrap().to_string(), written);
        }
        let price: ElectricityPrice = "0.5 EUR".parse().unwrap();
        assert!((price.of(7.2e6) - 1.0).abs() < 1e-9);
        assert_eq!(price.currency(), "EUR");
        for bad in ["", "EUR", "-1 EUR", "NaN", "inf EUR", "1e300", "0,32 EUR", "1 a currency nobody has", "1 a\u{7}"] {
            assert!(bad.parse::<ElectricityPrice>().unwrap_err().contains("0.32 EUR"), "{bad}");
        }
    }
}
