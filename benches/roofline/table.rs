//! Results as Markdown and JSON.

use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::Work;
use super::limits::median;

/// One bench with one number of threads.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was run.
    pub shape: String,
    /// Threads that it ran on.
    pub threads: usize,
    /// Median of the samples, per run.
    pub seconds: f64,
    /// What one run must do.
    pub work: Work,
    /// Bytes per second that as many threads read from memory, measured beside it.
    pub bandwidth: f64,
    /// The same where it lies in small pages.
    pub small_pages: f64,
    /// f32 operations per second of as many threads, measured beside it.
    pub peak: f64,
}

/// Everything that this process has published.
static PUBLISHED: Mutex<(String, Vec<Value>)> = Mutex::new((String::new(), Vec::new()));

/// Prints a group's table and writes the files anew.
pub fn publish(group: &str, rows: &[Row]) {
    let text = markdown(group, rows);
    println!("\n{text}");
    let mut published = PUBLISHED.lock().expect("no panic while locked");
    published.0 += &text;
    published.0.push('\n');
    published.1.extend(rows.iter().map(|row| row.json(group)));
    write(&published.0, &published.1);
}

/// Prints a paragraph and adds it to the Markdown.
pub fn note(text: &str) {
    println!("{text}\n");
    let mut published = PUBLISHED.lock().expect("no panic while locked");
    published.0 += text;
    published.0 += "\n\n";
    write(&published.0, &published.1);
}

fn write(markdown: &str, rows: &[Value]) {
    let at = |extension: &str| {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("roofline-{}.{extension}", env!("CARGO_CRATE_NAME")))
    };
    let json = serde_json::to_string_pretty(rows).expect("numbers and texts");
    for (path, text) in [(at("md"), markdown), (at("json"), &json)] {
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
        }
    }
}

fn markdown(group: &str, rows: &[Row]) -> String {
    let mut text = format!("### {group}\n\n");
    text += "| what | threads | median | GB/s | of bandwidth | GFLOP/s | of peak |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|\n";
    for row in rows {
        let (bytes, operations) = row.rates();
        let rate = |rate: f64, limit: f64| match rate {
            0.0 => "· | ·".to_string(),
            _ => format!("{:.1} | {:.0}%", rate / 1e9, 100.0 * rate / limit),
        };
        let (memory, compute) = (rate(bytes, row.bandwidth), rate(operations, row.peak));
        writeln!(text, "| {} | {} | {} | {memory} | {compute} |", row.shape, row.threads, time(row.seconds))
            .expect("writing to a string");
    }
    let mut threads: Vec<usize> = rows.iter().map(|row| row.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    let limits = threads.into_iter().map(|threads| {
        let of = |limit: fn(&Row) -> f64| median(rows.iter().filter(|row| row.threads == threads).map(limit).collect());
        let [bandwidth, small, peak] = [of(|row| row.bandwidth), of(|row| row.small_pages), of(|row| row.peak)];
        format!(
            "{threads} thread{}: {:.1} GB/s (from small pages {:.1}), {:.0} GFLOP/s",
            if threads == 1 { "" } else { "s" },
            bandwidth / 1e9,
            small / 1e9,
            peak / 1e9
        )
    });
    text + "\nLimits measured beside it: " + &limits.collect::<Vec<_>>().join("; ") + ".\n"
}

/// Seconds in three digits and a unit.
pub fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = 2usize.saturating_sub(number.max(1.0).log10() as usize);
    format!("{number:.decimals$} {unit}")
}

impl Row {
    /// Bytes and operations per second.
    fn rates(&self) -> (f64, f64) {
        (self.work.bytes as f64 / self.seconds, self.work.operations as f64 / self.seconds)
    }

    fn json(&self, group: &str) -> Value {
        let (bytes, operations) = self.rates();
        json!({
            "group": group,
            "what": self.shape,
            "threads": self.threads,
            "seconds": self.seconds,
            "bytes": self.work.bytes,
            "operations": self.work.operations,
            "bytesPerSecond": bytes,
            "operationsPerSecond": operations,
            "bandwidth": self.bandwidth,
            "bandwidthOfSmallPages": self.small_pages,
            "peak": self.peak,
            "shareOfBandwidth": bytes / self.bandwidth,
            "shareOfPeak": operations / self.peak,
        })
    }
}
