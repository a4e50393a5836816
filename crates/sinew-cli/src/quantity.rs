//! Numbers as people read them: durations, sizes, counts.

use std::time::Duration;

/// Writes a duration in its two largest units.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {below}"),
    };
    match seconds {
        0 => match time.as_millis() {
            0 => match time.as_micros() {
                0 => "0 s".to_owned(),
                micros => format!("{micros} µs"),
            },
            millis if millis < 10 => format!("{:.1} ms", time.as_secs_f64() * 1_000.0),
            millis => format!("{millis} ms"),
        },
        1..60 => {
            let tenths = time.as_millis() / 100;
            if tenths.is_multiple_of(10) {
                format!("{seconds} s")
            } else {
                format!("{seconds}.{} s", tenths % 10)
            }
        }
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Writes a number of bytes in the largest unit that leaves a whole one.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len() - 1).find(|&unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(UNITS.len() - 1);
    format!("{} {}", bytes >> (10 * unit), UNITS[unit])
}

/// Counts things in words.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let written = |millis: u64| duration(Duration::from_millis(millis));
        assert_eq!(
            [0, 2, 200, 1_000, 25_400, 60_000, 125_000, 3_600_000, 93_600_000].map(written),
            ["0 s", "2.0 ms", "200 ms", "1 s", "25.4 s", "1 min", "2 min 5 s", "1 h", "1 d 2 h"]
        );
        assert_eq!(duration(Duration::from_micros(7)), "7 µs");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, u64::MAX].map(size),
            ["0 B", "1023 B", "1 KiB", "1 MiB", "16777215 TiB"]
        );
    }
}
