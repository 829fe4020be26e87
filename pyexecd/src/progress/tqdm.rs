//! Bars as tqdm draws them: `desc:  45%|████▌     | 45/100 [00:04<00:05,  9.9it/s, postfix]`, and without a total
//! `desc: 45it [00:04,  9.9it/s]`.

use super::drawn::{Drawn, Kind, Proof, said};
use super::numbers::{interval, number, si_prefix};

/// Percentages and scaled counts are rounded.
const ROUNDING: f64 = 1.5;

pub(super) fn read(text: &str) -> Option<Drawn> {
    text.rmatch_indices(" [").find_map(|(at, _)| {
        let (head, times) = (&text[..at], &text[at + 2..]);
        let (_, rest) = interval(times)?;
        match rest.strip_prefix('<') {
            Some(rest) => with_total(head, rest),
            None => without_total(head, rest.strip_prefix(", ")?),
        }
    })
}

fn with_total(head: &str, times: &str) -> Option<Drawn> {
    let token = head.rfind([' ', '|']).map_or(0, |at| at + 1);
    let (current, total) = head[token..].split_once('/')?;
    let (current, current_scaled) = count(current)?;
    let (total, total_scaled) = count(total)?;
    // Either a bar between the percentage and the count, or none at all.
    let left = head[..token].trim_end();
    let percentage = match left.strip_suffix('|') {
        Some(bar) => &bar[..=bar.find("%|")?],
        None => left,
    };
    let percentage = percentage.strip_suffix('%')?;
    let digits = percentage
        .rfind(|letter: char| !letter.is_ascii_digit())
        .map_or(0, |at| at + percentage[at..].chars().next().map_or(1, char::len_utf8));
    let percent: f64 = percentage[digits..].parse().ok()?;
    // Two statements that have to agree: half a line tells nothing wrong.
    if total <= 0.0 || (percent - 100.0 * current / total).abs() > ROUNDING {
        return None;
    }
    let remaining = interval(times);
    let rest = match remaining {
        Some((_, rest)) => rest,
        None => times.strip_prefix('?').unwrap_or(""),
    };
    let message = description(&percentage[..digits]);
    Some(Drawn {
        kind: Kind::Tqdm,
        proof: Proof::Evident,
        display: message.clone().unwrap_or_default(),
        current: Some(current),
        total: Some(total),
        message,
        rate: rest.strip_prefix(", ").and_then(|rest| rate(rest, current_scaled || total_scaled)),
        eta_seconds: remaining.filter(|(_, rest)| rest.starts_with([',', ']'])).map(|(seconds, _)| seconds),
        counts_down: None,
    })
}

fn without_total(head: &str, rest: &str) -> Option<Drawn> {
    let (description_, counted) = match head.rfind(": ") {
        Some(at) => (&head[..at], head[at + 2..].trim_start()),
        None => ("", head.trim_start()),
    };
    let first = number(counted)?;
    let (current, scaled, unit) = match si_prefix(first.rest).filter(|(_, unit)| !unit.is_empty()) {
        Some((scale, unit)) => (first.value * scale, true, unit),
        None => (first.value, first.decimals, first.rest),
    };
    // The unit is repeated in the rate, which tells it from any other word before a time in brackets.
    let end = rest.find([',', ']'])?;
    let shown = rest[..end].trim_start();
    let shown_unit = number(shown).map_or_else(|| shown.strip_prefix('?'), |number| Some(number.rest))?;
    let is_unit = !unit.is_empty()
        && !unit.contains(|letter: char| letter.is_ascii_digit() || "[]|%".contains(letter))
        && (shown_unit.strip_suffix("/s").is_some_and(|shown| shown.ends_with(unit))
            || shown_unit.strip_prefix("s/").is_some_and(|shown| shown == unit));
    let message = description(description_);
    is_unit.then(|| Drawn {
        kind: Kind::Tqdm,
        proof: Proof::Evident,
        display: message.clone().unwrap_or_default(),
        current: Some(current),
        total: None,
        message,
        rate: rate(rest, scaled),
        eta_seconds: None,
        counts_down: None,
    })
}

fn description(text: &str) -> Option<String> {
    let text = text.trim();
    said(text.strip_suffix(':').unwrap_or(text))
}

/// `45`, `4.5k`, and whether it is scaled.
fn count(text: &str) -> Option<(f64, bool)> {
    let number = number(text)?;
    match si_prefix(number.rest) {
        Some((scale, "")) => Some((number.value * scale, true)),
        _ if number.rest.is_empty() => Some((number.value, number.decimals)),
        _ => None,
    }
}

/// `9.90it/s, …` or `1.30s/it]`; `?it/s` is not known. What is cut off before its end is not known either.
fn rate(text: &str, scaled: bool) -> Option<f64> {
    let text = &text[..text.find([',', ']'])?];
    let number = number(text.trim_start())?;
    let (value, unit) = match si_prefix(number.rest).filter(|_| scaled) {
        Some((scale, unit)) => (number.value * scale, unit),
        None => (number.value, number.rest),
    };
    let rate = if unit.ends_with("/s") {
        value
    } else if unit.starts_with("s/") {
        1.0 / value
    } else {
        return None;
    };
    rate.is_finite().then_some(rate)
}
