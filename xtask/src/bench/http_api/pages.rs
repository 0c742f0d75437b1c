//! Pages: how long they take, what they cost, how long they are.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

use super::Extent;
use super::client::{KubeletClient, Line};
use crate::bench::measure::Turn;
use crate::bench::usage::Meter;

/// Between two looks at the same page. Longer than either kubelet goes by what it saw before, so that each answer is a
/// new one; scrapers come more rarely.
const PAUSE: Duration = Duration::from_secs(11);

/// For how long a page is asked for again and again, however often that is.
const LONGEST: Duration = Duration::from_secs(8);

/// A page that somebody scrapes.
struct Page {
    path: &'static str,
    /// As Prometheus asks.
    is_compressed: bool,
}

const PAGES: [Page; 7] = [
    plain("/metrics"),
    plain("/stats/summary"),
    plain("/metrics/cadvisor"),
    compressed("/metrics/cadvisor"),
    plain("/metrics/resource"),
    plain("/metrics/probes"),
    plain("/pods"),
];

const fn plain(path: &'static str) -> Page {
    Page { path, is_compressed: false }
}

const fn compressed(path: &'static str) -> Page {
    Page { path, is_compressed: true }
}

impl Page {
    fn name(&self) -> String {
        format!("{}{}", self.path, if self.is_compressed { " (gzip)" } else { "" })
    }

    async fn get(&self, line: &mut Line) -> Result<usize> {
        let mut headers = HeaderMap::new();
        if self.is_compressed {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        line.get(self.path, headers).await
    }
}

/// What was seen of a page.
#[derive(Default)]
struct Seen {
    milliseconds: Vec<f64>,
    cpu_milliseconds: Vec<f64>,
    kilobytes: f64,
}

/// Asks for all pages, first with pauses, then without.
pub(super) async fn measure(
    client: &KubeletClient,
    pid: u32,
    extent: &Extent,
    turn: &mut Turn,
) -> Result<()> {
    eprintln!("    pages, {} s apart", PAUSE.as_secs());
    let mut line = client.line().await?;
    let mut meter = Meter::new(pid)?;
    let mut seen: [Seen; PAGES.len()] = Default::default();
    // Nothing is compared with what the first requests of all took.
    for page in &PAGES {
        page.get(&mut line).await?;
    }
    let (started, before) = (Instant::now(), meter.seconds()?);
    for _ in 0..extent.scrapes {
        tokio::time::sleep(PAUSE).await;
        for (page, seen) in PAGES.iter().zip(&mut seen) {
            let before = meter.seconds()?;
            let asked = Instant::now();
            let length = page.get(&mut line).await?;
            seen.milliseconds.push(asked.elapsed().as_secs_f64() * 1e3);
            seen.cpu_milliseconds.push((meter.seconds()? - before) * 1e3);
            // Exact: no page has 2^52 bytes.
            seen.kilobytes = length as f64 / 1e3;
        }
    }
    let cores = (meter.seconds()? - before) / started.elapsed().as_secs_f64();
    for (page, seen) in PAGES.iter().zip(seen) {
        let name = page.name();
        turn.add(format!("{name}, ms"), seen.milliseconds);
        turn.add(format!("{name}, CPU ms"), seen.cpu_milliseconds);
        turn.add(format!("{name}, kB"), vec![seen.kilobytes]);
    }
    turn.add(format!("CPU with all pages read every {} s, cores", PAUSE.as_secs()), vec![cores]);

    eprintln!("    pages, one after another");
    for page in &PAGES {
        let mut milliseconds = Vec::new();
        let (before, started) = (meter.seconds()?, Instant::now());
        while milliseconds.len() < extent.scrapes_in_a_row && started.elapsed() < LONGEST {
            let asked = Instant::now();
            page.get(&mut line).await?;
            milliseconds.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = (meter.seconds()? - before) * 1e3 / milliseconds.len() as f64;
        let name = page.name();
        turn.add(format!("{name}, in a row, ms"), milliseconds);
        turn.add(format!("{name}, in a row, CPU ms"), vec![cpu]);
    }
    Ok(())
}
