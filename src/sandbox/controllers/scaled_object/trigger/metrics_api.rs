//! The `metrics-api` trigger: a number in a JSON document that some service answers with.

use serde_json::Value;

use super::ask::{Place, TIMEOUT};
use super::metadata::Metadata;
use super::{Reading, milli, target_milli};
use crate::sandbox::controllers::Shared;
use crate::sandbox::quantity;

#[derive(Clone, Debug)]
pub struct MetricsApi {
    pub target_milli: i64,
    place: Place,
    location: String,
    steps: Vec<Step>,
    activation: f64,
}

/// One step of a path as GJSON has it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// A field of an object, or the number of an element of a list.
    Into(String),
    /// How many elements a list has.
    Count,
}

impl MetricsApi {
    pub fn read(metadata: &Metadata<'_>) -> Result<MetricsApi, String> {
        metadata.refuse(&["authMode", "authModes", "aggregateFromKubeServiceEndpoints"])?;
        if let Some(format) = metadata.text("format").filter(|format| *format != "json") {
            return Err(format!("the sandbox's metrics-api trigger reads json, and no {format:?}"));
        }
        let location = metadata.required("valueLocation")?.to_owned();
        Ok(MetricsApi {
            target_milli: target_milli(metadata, "targetValue")?,
            place: Place::read(metadata.required("url")?)?,
            steps: steps(&location)?,
            location,
            activation: metadata.number("activationTargetValue")?.unwrap_or(0.0),
        })
    }

    pub fn metric(&self) -> String {
        format!("metric-api-{}", self.location)
    }

    pub async fn ask(&self, shared: &Shared, ns: &str) -> Result<Reading, String> {
        let failed = |why: String| format!("error requesting metrics endpoint: {why}");
        let path = self.place.path().to_owned();
        let answer = self.place.get(shared, ns, path, vec![], TIMEOUT).await.map_err(failed)?;
        if answer.status != 200 {
            return Err(failed(format!("{}: api returned {}", self.place.path(), answer.status)));
        }
        let value = self.value(&answer.body).map_err(failed)?;
        Ok(Reading { milli: milli(value), active: value > self.activation })
    }

    fn value(&self, body: &str) -> Result<f64, String> {
        let document: Value = serde_json::from_str(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let mut at = Some(&document);
        let mut count = None;
        for step in &self.steps {
            match step {
                Step::Into(name) => {
                    at = at.and_then(|value| match value {
                        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
                        other => other.get(name),
                    });
                }
                Step::Count => count = at.and_then(Value::as_array).map(Vec::len),
            }
        }
        let found = match (count, at) {
            (Some(count), _) => Some(count as f64),
            (None, Some(Value::Number(number))) => number.as_f64(),
            (None, Some(Value::String(text))) => quantity::nano(text).map(|nano| nano as f64 / 1e9),
            _ => None,
        };
        found.filter(|value| value.is_finite()).ok_or_else(|| {
            let got = at.map_or("nothing".to_owned(), |value| value.to_string().chars().take(60).collect());
            format!(
                "valueLocation must point to value of type number or a string representing a Quantity got: '{got}' at {}",
                self.location
            )
        })
    }
}

/// Reads the part of GJSON's paths that names a value: fields and indexes with dots between, `\\.` for a dot in a name, and `#` at the end.
fn steps(location: &str) -> Result<Vec<Step>, String> {
    let mut names = vec![String::new()];
    let mut characters = location.chars();
    while let Some(character) = characters.next() {
        let last = names.last_mut().expect("there is one from the start on");
        match character {
            '.' => names.push(String::new()),
            '\\' => last.extend(characters.next()),
            '*' | '?' | '|' | '@' | '(' | ')' | '{' | '}' | '[' | ']' | '!' => {
                return Err(format!(
                    "valueLocation {location:?}: of GJSON's paths the sandbox reads fields, indexes and a `#` at the end, and no {character:?}"
                ));
            }
            other => last.push(other),
        }
    }
    let count = names.len();
    let step = |(at, name): (usize, String)| match name.as_str() {
        "" => Err(format!("valueLocation {location:?} has a step without a name")),
        "#" if at + 1 == count => Ok(Step::Count),
        "#" => Err(format!("valueLocation {location:?}: the sandbox reads `#` at the end of a path alone")),
        _ => Ok(Step::Into(name)),
    };
    names.into_iter().enumerate().map(step).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(location: &str, body: &str) -> Result<f64, String> {
        let metadata = json!({"url": "http://127.0.0.1:9/x", "valueLocation": location, "targetValue": "1"});
        MetricsApi::read(&Metadata(&metadata))?.value(body)
    }

    #[test]
    fn a_number_is_found_where_the_location_says() {
        let body = r#"{"queues": [{"depth": 3}, {"depth": 7.5}], "a.b": "1500m", "0": 4, "ok": true}"#;
        for (location, expected) in [("queues.1.depth", 7.5), ("queues.#", 2.0), ("a\\.b", 1.5), ("0", 4.0)] {
            assert_eq!(value(location, body), Ok(expected), "{location}");
        }
        for location in ["queues", "queues.7.depth", "ok", "none", "queues.-1"] {
            assert!(value(location, body).is_err_and(|why| why.contains("valueLocation must point to")), "{location}");
        }
    }

    #[test]
    fn paths_that_are_not_read_are_refused_and_no_answer_is_taken_for_zero() {
        for location in ["queues.*.depth", "a|b", "a..b", "", "queues.#.depth", "a.(b)"] {
            assert!(value(location, "{}").is_err(), "{location:?}");
        }
        let deep = "[".repeat(100_000);
        for body in ["", "x", "null", "[]", &deep] {
            assert!(value("a", body).is_err(), "{}", body.len());
        }
    }
}
