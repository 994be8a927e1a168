//! `corral usage`

use anstyle::Style;
use corral_api::dto::UsageList;
use corral_core::settings::ElectricityPrice;
use corral_core::usage::UsageRow;
use corral_daemon::Environment;

use super::Outcome;
use crate::args::{By, UsageArgs};
use crate::exit;
use crate::output::{BOLD, DIM, Output, Paint};
use crate::table::{Cell, table};
use crate::text;
use corral_client::Client;

/// Shows what requests cost.
pub(crate) fn usage(args: &UsageArgs, env: &Environment, out: &mut Output) -> Outcome {
    let client = Client::of_home(env)?;
    let body = client.get(&target(args))?;
    if out.json {
        out.raw(&body)?;
    } else {
        let list = client.parse(&body)?;
        out.text(&render(&list, args, out.paint))?;
    }
    Ok(exit::DONE)
}

fn target(args: &UsageArgs) -> String {
    let by = match args.by {
        By::Model => "model",
        By::Session => "session",
        By::Day => "day",
    };
    let since = args.since.as_ref().map_or_else(String::new, |since| format!("&since={}", encoded(since)));
    format!("/usage?by={by}{since}")
}

/// The text as it may stand in a query.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b':' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn render(list: &UsageList, args: &UsageArgs, paint: Paint) -> String {
    let UsageList { rows, electricity_price } = list;
    if rows.is_empty() {
        let since = args.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
        return format!(
            "no requests{since}: those that go through the gateway are counted, `corral status` shows where it is\n"
        );
    }
    let (heading, none) = match args.by {
        By::Model => ("MODEL", "no model"),
        By::Session => ("SESSION", "no session"),
        By::Day => ("DAY", "-"),
    };
    let head = |text: &str| Cell::new(text).style(DIM);
    let labels = rows.iter().any(|row| row.label.is_some());
    let label = |text: Option<&str>| labels.then(|| Cell::new(text.unwrap_or_default()));
    let mut first = vec![head(heading)];
    first.extend(label(Some("LABEL")).map(|cell| cell.style(DIM)));
    first.extend([
        head("REQUESTS").right(),
        head("IN").right(),
        head("CACHED").right(),
        head("").right(),
        head("OUT").right(),
        head("TIME").right(),
    ]);
    let shown = rows.iter().any(|row| row.energy_joules.is_some());
    let partly = shown && rows.iter().any(|row| row.energy_requests != Some(row.requests));
    let energy = Energies { shown, partly, price: electricity_price.as_ref() };
    first.extend(energy.heads().map(|text| head(text).right()));
    let mut lines = vec![first];
    lines.extend(rows.iter().map(|row| {
        let key = if row.key.is_empty() { Cell::new(none).style(DIM) } else { Cell::new(&row.key) };
        line(key, label(row.label.as_deref()), row, energy, Style::new())
    }));
    lines.push(line(Cell::new("total").style(BOLD), label(None), &total(rows), energy, BOLD));
    table(&lines, paint)
}

fn line(key: Cell, label: Option<Cell>, row: &UsageRow, energy: Energies<'_>, style: Style) -> Vec<Cell> {
    let numbers = [
        text::grouped(row.requests),
        text::grouped(row.tokens_in),
        text::grouped(row.tokens_cached),
        text::percent(row.tokens_cached, row.tokens_in),
        text::grouped(row.tokens_out),
        text::duration(row.seconds),
    ];
    let numbers = numbers.into_iter().chain(energy.cells(row)).map(|number| Cell::new(number).right().style(style));
    std::iter::once(key).chain(label).chain(numbers).collect()
}

/// The columns of energy: shown where some was measured, the last where not all was.
#[derive(Clone, Copy)]
struct Energies<'a> {
    shown: bool,
    partly: bool,
    price: Option<&'a ElectricityPrice>,
}

impl Energies<'_> {
    fn heads(self) -> impl Iterator<Item = &'static str> {
        let cost = (self.shown && self.price.is_some()).then_some("COST");
        self.shown.then_some("ENERGY").into_iter().chain(cost).chain(self.partly.then_some("MEASURED"))
    }

    fn cells(self, row: &UsageRow) -> impl Iterator<Item = String> {
        let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let energy = self.shown.then(|| or_none(row.energy_joules.map(text::energy)));
        let cost = self
            .price
            .filter(|_| self.shown)
            .map(|price| or_none(row.energy_joules.map(|joules| text::money(price.of(joules), price.currency()))));
        let measured = self.partly.then(|| match row.energy_requests {
            Some(measured) if measured == row.requests => "all".to_owned(),
            Some(measured) => format!("{} of {}", text::grouped(measured), text::grouped(row.requests)),
            None => "unknown".to_owned(),
        });
        energy.into_iter().chain(cost).chain(measured)
    }
}

fn total(rows: &[UsageRow]) -> UsageRow {
    let sum = |number: fn(&UsageRow) -> u64| rows.iter().map(number).fold(0, u64::saturating_add);
    UsageRow {
        key: String::new(),
        label: None,
        requests: sum(|row| row.requests),
        tokens_in: sum(|row| row.tokens_in),
        tokens_out: sum(|row| row.tokens_out),
        tokens_cached: sum(|row| row.tokens_cached),
        seconds: rows.iter().map(|row| row.seconds).sum(),
        energy_joules: rows.iter().filter_map(|row| row.energy_joules).reduce(|a, b| a + b),
        energy_requests: rows.iter().map(|row| row.energy_requests).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, requests: u64, tokens: [u64; 3], seconds: f64) -> UsageRow {
        let [tokens_in, tokens_out, tokens_cached] = tokens;
        let key = key.to_owned();
        let (label, energy_joules, energy_requests) = (None, None, Some(0));
        UsageRow { key, label, requests, tokens_in, tokens_out, tokens_cached, seconds, energy_joules, energy_requests }
    }

    fn list(rows: &[UsageRow]) -> UsageList {
        UsageList { rows: rows.to_vec(), electricity_price: None }
    }

    fn args(by: By, since: Option<&str>) -> UsageArgs {
        UsageArgs { by, since: since.map(str::to_owned) }
    }

    #[test]
    fn usage_stands_in_a_table_with_its_total() {
        let rows = [
            row("glm-flash", 1_234, [12_345_678, 98_765, 11_200_000], 7_500.0),
            row("tiny", 2, [10, 4, 0], 0.25),
            row("", 3, [0, 0, 0], 0.0),
        ];
        let expected = concat!(
            "MODEL      REQUESTS          IN      CACHED          OUT       TIME\n",
            "glm-flash     1,234  12,345,678  11,200,000  90%  98,765  2 h 5 min\n",
            "tiny              2          10           0   0%       4      0.2 s\n",
            "no model          3           0           0            0      0.0 s\n",
            "total         1,239  12,345,688  11,200,000  90%  98,769  2 h 5 min\n",
        );
        assert_eq!(render(&list(&rows), &args(By::Model, None), Paint(false)), expected);
    }

    #[test]
    fn a_session_is_shown_with_its_label() {
        let mut rows = [row("0-1", 2, [10, 4, 0], 0.25), row("0-2", 1, [1, 1, 0], 1.0), row("", 3, [0, 0, 0], 0.0)];
        let shown = |rows: &[UsageRow]| render(&list(rows), &args(By::Session, None), Paint(false));
        assert!(shown(&rows).starts_with("SESSION     REQUESTS  IN"), "{}", shown(&rows));
        rows[0].label = Some("~/project".to_owned());
        let expected = concat!(
            "SESSION     LABEL      REQUESTS  IN  CACHED      OUT   TIME\n",
            "0-1         ~/project         2  10       0  0%    4  0.2 s\n",
            "0-2                           1   1       0  0%    1  1.0 s\n",
            "no session                    3   0       0        0  0.0 s\n",
            "total                         6  11       0  0%    5  1.2 s\n",
        );
        assert_eq!(shown(&rows), expected);
    }

    #[test]
    fn energy_is_shown_where_it_was_measured_and_its_price_where_that_is_known() {
        let mut list = list(&[row("a", 2, [10, 4, 0], 1.0), row("b", 1, [1, 1, 0], 1.0)]);
        for (row, joules) in list.rows.iter_mut().zip([5_400.0, 3.0]) {
            (row.energy_joules, row.energy_requests) = (Some(joules), Some(row.requests));
        }
        let shown = |list: &UsageList| render(list, &args(By::Model, None), Paint(false));
        let expected = concat!(
            "MODEL  REQUESTS  IN  CACHED      OUT   TIME  ENERGY\n",
            "a             2  10       0  0%    4  1.0 s  1.5 Wh\n",
            "b             1   1       0  0%    1  1.0 s   3.0 J\n",
            "total         3  11       0  0%    5  2.0 s  1.5 Wh\n",
        );
        assert_eq!(shown(&list), expected);
        list.electricity_price = "40 EUR".parse().ok();
        assert!(shown(&list).ends_with("5  2.0 s  1.5 Wh      0.06 EUR\n"), "{}", shown(&list));
    }

    #[test]
    fn energy_of_some_requests_does_not_look_like_that_of_all() {
        let mut list = list(&[
            row("a", 4_000, [10, 4, 0], 1.0),
            row("b", 1, [1, 1, 0], 1.0),
            row("c", 2, [1, 1, 0], 1.0),
            row("d", 5, [1, 1, 0], 1.0),
        ]);
        list.electricity_price = "40 EUR".parse().ok();
        for (row, measured) in list.rows.iter_mut().zip([Some(1_200), Some(0), Some(2), None]) {
            row.energy_requests = measured;
            row.energy_joules = (measured != Some(0)).then_some(5_400.0);
        }
        let shown = |list: &UsageList| render(list, &args(By::Model, None), Paint(false));
        let expected = concat!(
            "MODEL  REQUESTS  IN  CACHED      OUT   TIME  ENERGY      COST        MEASURED\n",
            "a         4,000  10       0  0%    4  1.0 s  1.5 Wh  0.06 EUR  1,200 of 4,000\n",
            "b             1   1       0  0%    1  1.0 s       -         -          0 of 1\n",
            "c             2   1       0  0%    1  1.0 s  1.5 Wh  0.06 EUR             all\n",
            "d             5   1       0  0%    1  1.0 s  1.5 Wh  0.06 EUR         unknown\n",
            "total     4,008  13       0  0%    7  4.0 s  4.5 Wh  0.18 EUR         unknown\n",
        );
        assert_eq!(shown(&list), expected);
        list.rows.pop();
        assert!(shown(&list).ends_with("3.0 Wh  0.12 EUR  1,202 of 4,003\n"), "{}", shown(&list));
        list.rows.remove(0);
        list.rows.pop();
        assert!(!shown(&list).contains("ENERGY"), "none was measured: {}", shown(&list));
    }

    #[test]
    fn no_usage_says_what_is_counted() {
        assert!(
            render(&list(&[]), &args(By::Day, None), Paint(false)).starts_with("no requests: those that go through")
        );
        assert!(render(&list(&[]), &args(By::Day, Some("7d")), Paint(false)).starts_with("no requests since 7d: "));
    }

    #[test]
    fn what_is_asked_for_stands_in_the_query() {
        assert_eq!(target(&args(By::Model, None)), "/usage?by=model");
        let time = "2026-11-01T08:00:00+02:00";
        assert_eq!(target(&args(By::Day, Some(time))), "/usage?by=day&since=2026-11-01T08:00:00%2B02:00");
        assert_eq!(target(&args(By::Session, Some("a&b c"))), "/usage?by=session&since=a%26b%20c");
    }
}
