//! The table at the end.

use std::fmt;

use super::measure::Turn;

/// Whose turn it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kubelet {
    /// The upstream kubelet.
    Go,
    /// The one that ours is measured against besides.
    Against,
    /// Ours.
    Ours,
}

/// All turns so far.
#[derive(Default)]
pub(super) struct Report {
    turns: Vec<(Kubelet, Turn)>,
}

impl Report {
    /// Adds a turn.
    pub(super) fn add(&mut self, kubelet: Kubelet, turn: Turn) {
        self.turns.push((kubelet, turn));
    }

    /// The medians of the last turn, for those who do not wait for the end.
    pub(super) fn last_turn(&self) -> String {
        let Some((_, turn)) = self.turns.last() else { return String::new() };
        let line = |row| format!("    | {row}: {}\n", number(percentile(turn.samples(row), 50)));
        turn.rows().map(line).collect()
    }

    fn rows(&self) -> Vec<&str> {
        self.turns.first().map(|(_, turn)| turn.rows().collect()).unwrap_or_default()
    }

    /// The samples of a row, one list a turn.
    fn samples(&self, kubelet: Kubelet, row: &str) -> Vec<&[f64]> {
        let turns = self.turns.iter().filter(|(whose, _)| *whose == kubelet);
        turns.map(|(_, turn)| turn.samples(row)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_third = self.turns.iter().any(|(whose, _)| *whose == Kubelet::Against);
        let (heads, rules) =
            if has_third { (" against p50 / p99 | ours ÷ against (p50) |", "---|---|") } else { ("", "") };
        writeln!(out, "| what | Go p50 / p99 | ours p50 / p99 | ours ÷ Go (p50) |{heads}")?;
        writeln!(out, "|---|---|---|---|{rules}")?;
        let rows = self.rows();
        for row in &rows {
            let all = |kubelet| self.samples(kubelet, row).concat();
            let (go, ours) = (all(Kubelet::Go), all(Kubelet::Ours));
            write!(out, "| {row} | {} | {} | {} |", pair(&go), pair(&ours), ratio(&ours, &go))?;
            if has_third {
                let against = all(Kubelet::Against);
                write!(out, " {} | {} |", pair(&against), ratio(&ours, &against))?;
            }
            writeln!(out)?;
        }
        writeln!(out, "\nMedians of each turn, in order:")?;
        for row in &rows {
            let medians = |kubelet| -> String {
                let turns = self.samples(kubelet, row).into_iter();
                turns.map(|turn| number(percentile(turn, 50))).collect::<Vec<_>>().join(", ")
            };
            write!(out, "{row}: Go {}; ours {}", medians(Kubelet::Go), medians(Kubelet::Ours))?;
            if has_third {
                write!(out, "; against {}", medians(Kubelet::Against))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// How many times the median of others this median is.
fn ratio(these: &[f64], others: &[f64]) -> String {
    match (percentile(these, 50), percentile(others, 50)) {
        (Some(these), Some(others)) if others > 0.0 => format!("{:.2}", these / others),
        _ => "–".to_owned(),
    }
}

fn pair(samples: &[f64]) -> String {
    format!("{} / {}", number(percentile(samples, 50)), number(percentile(samples, 99)))
}

/// Three significant digits, or more where there are more before the point.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 0.1 || value == 0.0 => format!("{value:.3}"),
        Some(value) => format!("{value:.5}"),
    }
}

/// The smallest sample that `percent` of all do not exceed.
pub(super) fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_kubelet_has_columns_of_its_own() {
        let mut report = Report::default();
        let turn = |value| {
            let mut turn = Turn::default();
            turn.add("start, s", vec![value]);
            turn
        };
        report.add(Kubelet::Go, turn(8.0));
        report.add(Kubelet::Ours, turn(2.0));
        assert!(
            report.to_string().contains("| start, s | 8.000 / 8.000 | 2.000 / 2.000 | 0.25 |\n"),
            "{report}"
        );
        report.add(Kubelet::Against, turn(4.0));
        let text = report.to_string();
        assert!(
            text.contains("| 0.25 | 4.000 / 4.000 | 0.50 |\n") && text.contains("; against 4.000\n"),
            "{text}"
        );
    }

    #[test]
    fn percentiles() {
        let samples: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert_eq!(percentile(&samples, 50), Some(50.0));
        assert_eq!(percentile(&samples, 99), Some(99.0));
        assert_eq!(percentile(&[3.0], 50), Some(3.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 99), Some(3.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
