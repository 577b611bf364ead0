//! The `strftime_now` function: today's date in the templates that ask for it.

use minijinja::{Error, ErrorKind};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats seconds since 1970 (UTC) in C's `strftime` notation, names in English.
pub(super) fn strftime(seconds: u64, format: &str) -> Result<String, Error> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(days + 4) as usize % 7];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let field = match characters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('d') => format!("{day:02}"),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('%') => "%".into(),
            other => {
                let field = other.map_or("%".into(), |field| format!("%{field}"));
                return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {field} is not supported")));
            }
        };
        text.push_str(&field);
    }
    Ok(text)
}

/// Year, month and day (both from 1) of the Gregorian calendar, by days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Count in years that begin with March, so that the leap day comes last: 146 097 days are 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_date_command() {
        // date -u -d @SECONDS "+%A %a %d %B %b %Y %y %m %H %I %p %M %S %%"
        let format = "%A %a %d %B %b %Y %y %m %H %I %p %M %S %%";
        for (seconds, expected) in [
            (0, "Thursday Thu 01 January Jan 1970 70 01 00 12 AM 00 00 %"),
            (951_782_400, "Tuesday Tue 29 February Feb 2000 00 02 00 12 AM 00 00 %"),
            (1_709_251_199, "Thursday Thu 29 February Feb 2024 24 02 23 11 PM 59 59 %"),
            (1_735_732_800, "Wednesday Wed 01 January Jan 2025 25 01 12 12 PM 00 00 %"),
            (4_107_542_399, "Sunday Sun 28 February Feb 2100 00 02 23 11 PM 59 59 %"),
        ] {
            assert_eq!(strftime(seconds, format).unwrap(), expected);
        }
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        assert!(strftime(0, "%Q").unwrap_err().to_string().contains("%Q"));
        assert!(strftime(0, "100%").is_err());
    }
}
