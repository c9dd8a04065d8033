//! A schedule as crontab(5) has it, of five fields: minute, hour, day of the month, month, day of the week. Names of months and days,
//! ranges, steps and lists are read; a day must meet both of its fields where one of them is `*`, and either of them where none is.
//! A time that the clocks skip does not come, one that they repeat comes twice.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// After so many days without a moment there is none: a 29 February on a given weekday comes within 28 years, nothing else later than 8.
const DAYS_MAX: usize = 28 * 366;

/// Bit n of each field stands for its number n.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    days_rule: DaysRule,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DaysRule {
    Both,
    Either,
}

struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day of month", least: 1, most: 31, names: &[] },
    Field {
        what: "month",
        least: 1,
        most: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { what: "day of week", least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Schedule, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{text}]", fields.len()));
        };
        let starred = |field: &str| field.split(',').any(|part| matches!(part, "*" | "?" | "*/1" | "?/1"));
        let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
        Ok(Schedule {
            minutes: of_minute.read(minute)?,
            hours: of_hour.read(hour)?,
            days: of_day.read(day)?,
            months: of_month.read(month)?,
            weekdays: of_weekday.read(weekday)?,
            days_rule: if starred(day) || starred(weekday) { DaysRule::Both } else { DaysRule::Either },
        })
    }
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= self.part(part).map_err(|why| format!("{}: {why} in {text:?}", self.what))?;
        }
        Ok(bits)
    }

    /// `*`, `7`, `1-5`, `*/15`, `10-40/10`, `5/20` (from 5 on).
    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(step.parse::<u32>().map_err(|_| format!("{step:?} is no step"))?)),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (self.least, self.most),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None if step.is_some() => (self.number(range)?, self.most),
            None => (self.number(range)?, self.number(range)?),
        };
        if step == Some(0) {
            return Err("a step must be a positive number".into());
        }
        if from > to {
            return Err(format!("{from} is beyond the end of its range ({to})"));
        }
        Ok((from..=to).step_by(step.unwrap_or(1) as usize).fold(0, |bits, number| bits | 1 << number))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u32 + self.least);
        let number = named.or_else(|| text.parse().ok()).ok_or_else(|| format!("{text:?} is no number"))?;
        match (self.least..=self.most).contains(&number) {
            true => Ok(number),
            false => Err(format!("{number} is not from {} to {}", self.least, self.most)),
        }
    }
}

impl Schedule {
    /// The first moment after `after`; `None` where none comes for years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut day = after.to_zoned(zone.clone()).date();
        for _ in 0..DAYS_MAX {
            if self.has_day(day)
                && let Some(found) = self.on(day, after, zone)
            {
                return Some(found);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn has_day(&self, day: Date) -> bool {
        let has = |bits: u64, number: i8| bits >> number & 1 == 1;
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        has(self.months, day.month())
            && match self.days_rule {
                DaysRule::Both => of_month && of_week,
                DaysRule::Either => of_month || of_week,
            }
    }

    /// The first moment of a day after `after`. Where clocks are put back, later readings may come before earlier ones, so all are looked at.
    fn on(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let numbers = |bits: u64, most: i8| (0..=most).filter(move |number| bits >> number & 1 == 1);
        let times = numbers(self.hours, 23).flat_map(|hour| numbers(self.minutes, 59).map(move |minute| (hour, minute)));
        let moments = times.flat_map(|(hour, minute)| {
            let there = zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0));
            match there.offset() {
                AmbiguousOffset::Gap { .. } => [None, None],
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => [there.earlier().ok(), there.later().ok()],
            }
        });
        moments.flatten().filter(|moment| *moment > after).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: &str, zone: &TimeZone, after: &str, expected: &str) {
        let schedule: Schedule = schedule.parse().unwrap_or_else(|why| panic!("{why}"));
        let next = schedule.next(after.parse().expect("a time"), zone).map(|next| next.to_string());
        assert_eq!(next.as_deref(), Some(expected), "after {after}");
    }

    #[test]
    fn the_next_moment_is_found_by_every_field() {
        let utc = &TimeZone::UTC;
        // 27 November 2026 is a Friday.
        let now = "2026-11-27T10:15:30Z";
        check("* * * * *", utc, now, "2026-11-27T10:16:00Z");
        check("15 10 * * *", utc, now, "2026-11-28T10:15:00Z");
        check("*/20 * * * *", utc, now, "2026-11-27T10:20:00Z");
        check("5/20 9-17 * * mon-fri", utc, now, "2026-11-27T10:25:00Z");
        check("0 8 * * 1", utc, now, "2026-11-30T08:00:00Z");
        check("0 0 1 jan ?", utc, now, "2027-01-01T00:00:00Z");
        check("0 0 29 2 *", utc, now, "2028-02-29T00:00:00Z");
        check("0 0 13 * 5", utc, now, "2026-12-04T00:00:00Z");
        check("0,30 0 1,15 */6 *", utc, now, "2027-01-01T00:00:00Z");
        let exactly = "2026-11-27T10:16:00Z";
        check("* * * * *", utc, exactly, "2026-11-27T10:17:00Z");
    }

    #[test]
    fn zones_and_the_hours_that_clocks_skip_and_repeat_are_heeded() {
        // Central Europe: clocks go from 2 to 3 on 28 March 2027, and from 3 to 2 on 31 October 2027.
        let zone = &TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule as POSIX has them");
        check("0 8 * * *", zone, "2027-03-27T12:00:00Z", "2027-03-28T06:00:00Z");
        check("0 8 * * *", zone, "2027-03-26T12:00:00Z", "2027-03-27T07:00:00Z");
        check("30 2 * * *", zone, "2027-03-27T12:00:00Z", "2027-03-29T00:30:00Z");
        check("30 2 * * *", zone, "2027-10-30T12:00:00Z", "2027-10-31T00:30:00Z");
        check("30 2 * * *", zone, "2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z");
        check("30 2 * * *", zone, "2027-10-31T01:30:00Z", "2027-11-01T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        for (text, word) in [
            ("* * * *", "5 fields, found 4"),
            ("60 * * * *", "minute: 60"),
            ("* 24 * * *", "hour: 24"),
            ("* * 0 * *", "day of month: 0"),
            ("* * * 13 *", "month: 13"),
            ("* * * * mars", "day of week: \"mars\""),
            ("*/0 * * * *", "positive"),
            ("5-1 * * * *", "beyond the end"),
            ("@hourly", "5 fields"),
            ("-1 * * * *", "minute"),
        ] {
            let why = text.parse::<Schedule>().expect_err(text);
            assert!(why.contains(word), "{text}: {why}");
        }
        assert_eq!("0 0 31 2 *".parse::<Schedule>().expect("its form is well").next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }
}
