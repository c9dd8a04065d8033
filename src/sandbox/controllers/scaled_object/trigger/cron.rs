//! The `cron` trigger: so many replicas from one moment of a calendar to another, in a time zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Reading;
use super::metadata::{Metadata, missing};
use super::schedule::Schedule;

/// What it asks for outside of its time: as much as keeps an autoscaler at its least.
const OUTSIDE: i64 = 1;
const REPLICAS_MAX: i64 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Cron {
    zone: TimeZone,
    /// As they were said, for the metric's name.
    said: [String; 3],
    start: Schedule,
    end: Schedule,
    replicas: i64,
}

impl Cron {
    pub fn read(metadata: &Metadata<'_>) -> Result<Cron, String> {
        let zone = metadata.required("timezone")?;
        let (start, end) = (metadata.required("start")?, metadata.required("end")?);
        let schedule =
            |field: &str, text: &str| text.parse::<Schedule>().map_err(|why| format!("error parsing {field} schedule: {why}"));
        if start == end {
            return Err("start and end can not have exactly same time input".into());
        }
        let replicas = metadata.count("desiredReplicas", 1..=REPLICAS_MAX)?;
        Ok(Cron {
            said: [zone, start, end].map(str::to_owned),
            zone: time_zone(zone)?,
            start: schedule("start", start)?,
            end: schedule("end", end)?,
            replicas: replicas.ok_or_else(|| missing("desiredReplicas"))?,
        })
    }

    pub fn metric(&self) -> String {
        let [zone, start, end] = &self.said;
        let short = |text: &str| text.replace(' ', "").replace('*', "x").replace('/', "Sl").replace('?', "Qm");
        format!("cron-{zone}-{}-{}", short(start), short(end))
    }

    /// What it comes to at a moment: it is active where its end comes before its next start.
    pub fn at(&self, now: Timestamp) -> Result<Reading, String> {
        let next = |schedule: &Schedule, text: &str| {
            schedule.next(now, &self.zone).ok_or_else(|| format!("{text:?} names no moment of the next years"))
        };
        let (start, end) = (next(&self.start, &self.said[1])?, next(&self.end, &self.said[2])?);
        let active = end <= start;
        Ok(Reading { milli: if active { self.replicas } else { OUTSIDE } * 1000, active })
    }
}

/// UTC, or a zone of the machine's IANA database.
fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|error| {
        format!(
            "unable to load timezone {name:?}: {error}; write UTC, or a name of this machine's /usr/share/zoneinfo (package tzdata)"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cron(start: &str, end: &str) -> Result<Cron, String> {
        let metadata = json!({"timezone": "UTC", "start": start, "end": end, "desiredReplicas": "5"});
        Cron::read(&Metadata(&metadata))
    }

    #[test]
    fn it_is_active_from_its_start_to_its_end() {
        let work = cron("0 8 * * *", "30 17 * * *").expect("it is well");
        let at = |time: &str| work.at(format!("2026-11-27T{time}Z").parse().expect("a time")).expect("there is a next moment");
        for (time, active) in [("07:59:59", false), ("08:00:00", true), ("12:00:00", true), ("17:29:59", true), ("17:30:00", false)]
        {
            let reading = at(time);
            assert_eq!((reading.active, reading.milli), (active, if active { 5000 } else { 1000 }), "{time}");
        }
        let night = cron("0 22 * * *", "0 6 * * *").expect("it is well");
        assert!(night.at("2026-11-27T23:00:00Z".parse().expect("a time")).is_ok_and(|reading| reading.active));
        assert!(night.at("2026-11-27T12:00:00Z".parse().expect("a time")).is_ok_and(|reading| !reading.active));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (start, end, word) in [
            ("0 8 * * *", "0 8 * * *", "exactly same"),
            ("0 8 * *", "0 9 * * *", "start schedule"),
            ("0 8 * * *", "0 24 * * *", "end schedule"),
        ] {
            assert!(cron(start, end).is_err_and(|why| why.contains(word)), "{start} {end}");
        }
        let zone = json!({"timezone": "Atlantis/Capital", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "1"});
        assert!(Cron::read(&Metadata(&zone)).is_err_and(|why| why.contains("Atlantis/Capital") && why.contains("tzdata")));
        let none = json!({"timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "0"});
        assert!(Cron::read(&Metadata(&none)).is_err_and(|why| why.contains("desiredReplicas")));
        let never = cron("0 0 30 2 *", "0 0 * * *").expect("its form is well");
        assert!(never.at("2026-11-27T12:00:00Z".parse().expect("a time")).is_err());
    }
}
