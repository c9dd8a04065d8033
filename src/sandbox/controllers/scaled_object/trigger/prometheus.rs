//! The `prometheus` trigger: the one value of an instant query (`/api/v1/query` of Prometheus' HTTP API).

use std::time::Duration;

use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::ask::{Place, TIMEOUT};
use super::metadata::Metadata;
use super::{Reading, milli, target_milli};
use crate::sandbox::controllers::Shared;
use crate::sandbox::store::seconds;
use crate::time::wall_now;

#[derive(Clone, Debug)]
pub struct Prometheus {
    pub threshold_milli: i64,
    server: Place,
    query: String,
    activation: f64,
    /// Whether an answer without a value counts as zero.
    nulls: Nulls,
    parameters: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nulls {
    AreZero,
    AreErrors,
}

impl Prometheus {
    pub fn read(metadata: &Metadata<'_>) -> Result<Prometheus, String> {
        metadata.refuse(&["authModes", "awsRegion", "identityOwner"])?;
        let mut parameters = metadata.pairs("queryParameters")?;
        parameters.extend(metadata.text("namespace").map(|namespace| ("namespace".to_owned(), namespace.to_owned())));
        let timeout = metadata.count("timeout", 1..=60_000)?;
        Ok(Prometheus {
            threshold_milli: target_milli(metadata, "threshold")?,
            server: Place::read(metadata.required("serverAddress")?)?,
            query: metadata.required("query")?.to_owned(),
            activation: metadata.number("activationThreshold")?.unwrap_or(0.0),
            nulls: if metadata.flag("ignoreNullValues", true)? { Nulls::AreZero } else { Nulls::AreErrors },
            parameters,
            headers: metadata.pairs("customHeaders")?,
            timeout: timeout.map_or(TIMEOUT, |ms| Duration::from_millis(ms.unsigned_abs())),
        })
    }

    pub async fn ask(&self, shared: &Shared, ns: &str) -> Result<Reading, String> {
        let path = self.path(&seconds(wall_now()));
        let answer = self.server.get(shared, ns, path, self.headers.clone(), self.timeout).await?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("prometheus query api returned error. status: {} {}", answer.status, start(&answer.body)));
        }
        let value = self.value(&answer.body)?;
        Ok(Reading { milli: milli(value), active: value > self.activation })
    }

    /// The instant query, as of a moment.
    fn path(&self, time: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("query", &self.query).append_pair("time", time);
        query.extend_pairs(&self.parameters);
        format!("{}/api/v1/query?{}", self.server.path().trim_end_matches('/'), query.finish())
    }

    fn value(&self, body: &str) -> Result<f64, String> {
        let answer: Value =
            serde_json::from_str(body).map_err(|error| format!("prometheus answered no JSON: {error} ({})", start(body)))?;
        let found = answer.pointer("/data/result").and_then(Value::as_array);
        let found = found.filter(|_| answer.pointer("/data/resultType").is_none_or(|kind| kind == "vector"));
        let Some(found) = found else {
            return Err(format!("prometheus query {} did not return a vector: {}", self.query, start(body)));
        };
        let none = |what: &str| match self.nulls {
            Nulls::AreZero => Ok(0.0),
            Nulls::AreErrors => Err(format!("prometheus metrics 'prometheus' target may be lost, {what}")),
        };
        let sample = match &found[..] {
            [] => return none("the result is empty"),
            [one] => one["value"].as_array().map_or(&[][..], Vec::as_slice),
            _ => return Err(format!("prometheus query {} returned multiple elements", self.query)),
        };
        let value = match sample {
            [] => return none("the value list is empty"),
            [_, value, ..] => value.as_str().and_then(|text| text.parse::<f64>().ok()),
            _ => return Err(format!("prometheus query {} didn't return enough values", self.query)),
        };
        match value {
            None => Err(format!("prometheus query {} returned no number: {}", self.query, start(body))),
            Some(value) if value.is_finite() => Ok(value),
            Some(value) => none(&format!("the query returns {value}")),
        }
    }
}

/// The beginning of an answer, for an error.
fn start(body: &str) -> String {
    body.trim().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(nulls: &str, body: &str) -> Result<f64, String> {
        let metadata = json!({"serverAddress": "http://127.0.0.1:9", "query": "q", "threshold": "1", "ignoreNullValues": nulls});
        Prometheus::read(&Metadata(&metadata)).expect("it is well").value(body)
    }

    #[test]
    fn the_question_is_an_instant_query_with_everything_in_it_escaped() {
        let metadata = json!({"serverAddress": "http://127.0.0.1:9/prom/", "query": "sum(a{b=\"c\"}) & 1", "threshold": "1", "namespace": "n",
            "queryParameters": "p=q"});
        let path = Prometheus::read(&Metadata(&metadata)).expect("it is well").path("2026-11-27T10:00:00Z");
        let query = "query=sum%28a%7Bb%3D%22c%22%7D%29+%26+1&time=2026-11-27T10%3A00%3A00Z&p=q&namespace=n";
        assert_eq!(path, format!("/prom/api/v1/query?{query}"));
    }

    #[test]
    fn an_instant_query_has_one_value_and_none_of_it_is_zero_unless_that_is_an_error() {
        let vector = |result: Value| json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string();
        assert_eq!(value("true", &vector(json!([{"metric": {}, "value": [1.0, "12.5"]}]))), Ok(12.5));
        for empty in [json!([]), json!([{"value": []}]), json!([{"value": [1.0, "NaN"]}]), json!([{"value": [1.0, "+Inf"]}])] {
            assert_eq!(value("true", &vector(empty.clone())), Ok(0.0), "{empty}");
            assert!(value("false", &vector(empty.clone())).is_err_and(|why| why.contains("may be lost")), "{empty}");
        }
        let two = json!([{"value": [1.0, "1"]}, {"value": [1.0, "2"]}]);
        assert!(value("true", &vector(two)).is_err_and(|why| why.contains("multiple elements")));
    }

    #[test]
    fn whatever_a_server_answers_ends_in_a_value_or_in_words() {
        let deep = "[".repeat(100_000);
        for strange in
            ["", "x", "{}", "[]", "null", r#"{"data": 1}"#, r#"{"data": {"resultType": "scalar", "result": [1, "2"]}}"#, &deep]
        {
            let why = value("true", strange).expect_err("it is no answer");
            assert!(why.len() < 500, "{}", why.len());
        }
        assert!(value("true", r#"{"data": {"result": [{"value": [1, 2]}]}}"#).is_err_and(|why| why.contains("no number")));
    }
}
