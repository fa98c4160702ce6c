//! `bench`: what the codec makes of a file, and how fast.

use std::path::Path;

use mmh_repo::{Level, MeasureReport};

use crate::args::LevelArg;
use crate::failure::Failure;
use crate::output::{DIM, percent, size, styled, table};
use crate::session::Session;

/// Measures one level, or all of them.
pub(crate) fn bench(
    session: &Session,
    file: &Path,
    base: Option<&Path>,
    level: Option<LevelArg>,
    rounds: u32,
) -> Result<(), Failure> {
    let levels = match level {
        Some(_) => vec![session.settings().level],
        None => Level::ALL.to_vec(),
    };
    let mut reports = Vec::new();
    for level in levels {
        let settings = mmh_repo::Settings {
            level,
            ..session.settings()
        };
        reports.push(mmh_repo::measure(
            file,
            base,
            rounds,
            settings,
            session.components(),
        )?);
    }
    session.output.report(&reports, |out| {
        let row = |r: &MeasureReport| {
            vec![
                r.level.clone(),
                size(r.coded),
                percent(r.coded, r.raw),
                speed(r.raw, r.encode_cpu_s),
                speed(r.raw, r.decode_cpu_s),
            ]
        };
        let rows: Vec<_> = reports.iter().map(row).collect();
        let heads = ["level", "coded", "of raw", "encode MB/s", "decode MB/s"];
        table(out, &heads, &[1, 2, 3, 4], &rows)?;
        if let Some(r) = reports.first() {
            let (raw, hash, copy) = (
                size(r.raw),
                speed(r.raw, r.hash_cpu_s),
                speed(r.raw, r.copy_cpu_s),
            );
            writeln!(
                out,
                "\n{}",
                styled(
                    DIM,
                    format!(
                        "{raw} of {}; BLAKE3 {hash} MB/s, memcpy {copy} MB/s",
                        r.container
                    )
                )
            )?;
        }
        Ok(())
    })
}

/// 10^6 bytes a second; a dash for what took no measurable time.
#[allow(clippy::cast_precision_loss, reason = "for display")]
fn speed(raw: u64, seconds: f64) -> String {
    if seconds > 0.0 {
        format!("{:.0}", raw as f64 / 1e6 / seconds)
    } else {
        "–".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::speed;

    #[test]
    fn speeds_are_megabytes_a_second() {
        assert_eq!(speed(3_000_000, 0.001), "3000");
        assert_eq!(speed(1, 0.0), "–");
    }
}
