//! `strftime` for the directives chat templates use, on a moment in UTC.

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
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats a moment, given in seconds since 1970-01-01 UTC. The error is the directive that is not known.
pub(crate) fn strftime(unix_seconds: i64, format: &str) -> Result<String, String> {
    let (days, second_of_day) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[(days + 4).rem_euclid(7) as usize];
    let hour12 = (hour + 11) % 12 + 1;

    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = rest.next();
        // `%-d` is glibc's day without the leading zero.
        let bare = directive == Some('-');
        if bare {
            directive = rest.next();
        }
        let padded = |number: i64| if bare { number.to_string() } else { format!("{number:02}") };
        out += &match directive {
            Some('Y') => year.to_string(),
            Some('y') => padded(year.rem_euclid(100)),
            Some('m') => padded(month),
            Some('d') => padded(day),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => padded(hour),
            Some('I') => padded(hour12),
            Some('M') => padded(minute),
            Some('S') => padded(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('%') => "%".to_owned(),
            other => return Err(format!("%{}", other.map(String::from).unwrap_or_default())),
        };
    }
    Ok(out)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar
/// (Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // `date -u -d @N +FORMAT`
        assert_eq!(strftime(0, "%a %A %d %b %Y %H:%M:%S").unwrap(), "Thu Thursday 01 Jan 1970 00:00:00");
        assert_eq!(strftime(1_709_210_096, "%d %B %y, %I:%M %p, %%, %-d").unwrap(), "29 February 24, 12:34 PM, %, 29");
        assert_eq!(strftime(951_782_400, "%Y-%m-%d").unwrap(), "2000-02-29");
        assert_eq!(strftime(-1, "%Y-%m-%d %H").unwrap(), "1969-12-31 23");
        assert_eq!(strftime(0, "%Q").unwrap_err(), "%Q");
    }
}
