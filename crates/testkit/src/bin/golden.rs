//! `golden DIR [--models DIR]`: runs golden cases and golden models, prints one line a kind, fails when one fails.

use std::path::PathBuf;
use std::process::ExitCode;

use headwise_testkit::golden;

fn main() -> ExitCode {
    let (mut cases, mut models) = (None, None);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let slot = match argument.to_str() {
            Some("--models") => models.replace(match arguments.next() {
                Some(folder) => PathBuf::from(folder),
                None => return usage(),
            }),
            Some(option) if option.starts_with('-') => return usage(),
            _ => cases.replace(PathBuf::from(argument)),
        };
        if slot.is_some() {
            return usage();
        }
    }
    let mut report = match (&cases, &models) {
        (None, None) => return usage(),
        (Some(folder), _) => golden::run_folder(folder),
        (None, Some(_)) => golden::Report::default(),
    };
    if let Some(folder) = models {
        golden::run_models(&folder, &mut report);
    }
    println!("{report}");
    if report.total().failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    eprintln!("usage: golden [DIR] [--models DIR]");
    ExitCode::from(2)
}
