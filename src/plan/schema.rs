//! The language as a JSON Schema, for editors: made from the types that read a plan and from the tables of kinds, so that it cannot
//! say anything else than the reader. Draft 7, which is what editors understand.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Value, json};

use super::written::Written;
use crate::kinds::{Kind, Row};
use crate::{faults, schedule, verdict};

/// A parameter in place of a value.
const PARAMETER: &str = r"\$\{[A-Za-z_][A-Za-z0-9_-]*\}";

/// The schema of a plan, in JSON Schema draft 7.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Written>();
    RecursiveTransform(as_read).transform(&mut schema);
    let mut schema = schema.to_value();
    or_a_parameter(&mut schema);
    for row in schedule::Arrivals::ALL.iter().chain(faults::Spec::ALL).chain(verdict::Spec::ALL) {
        name_definition(&mut schema, row);
    }
    schema
}

/// Where the reader differs from serde's model: a key is given a value or left out, never null; and whatever is read from text may
/// be a parameter.
fn as_read(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(any)) = object.get_mut("anyOf") {
        any.retain(|one| *one != json!({"type": "null"}));
        if let [one] = &any[..] {
            let one = one.clone();
            object.remove("anyOf");
            // Beside a $ref, draft 7 sees nothing else.
            object.insert("allOf".into(), json!([one]));
        }
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    match object.get("type").and_then(Value::as_str) {
        Some("boolean") => {
            object.insert("type".into(), json!(["boolean", "string"]));
            object.insert("pattern".into(), json!(format!("^{PARAMETER}$")));
        }
        Some("string") => {
            if let Some(Value::String(pattern)) = object.get_mut("pattern")
                && !pattern.contains(r"\$\{")
            {
                *pattern = format!("{pattern}|{PARAMETER}");
            }
        }
        Some(number @ ("integer" | "number")) => {
            let number = number.to_owned();
            object.insert("type".into(), json!([number, "string"]));
            object.insert("pattern".into(), json!(format!("^{PARAMETER}$")));
        }
        _ => {}
    }
}

/// Lets a parameter stand wherever one of some words does.
fn or_a_parameter(schema: &mut Value) {
    let parameter = || json!({"type": "string", "pattern": format!("^{PARAMETER}$")});
    let is_list = |object: &serde_json::Map<String, Value>| object.get("enum").is_some_and(Value::is_array);
    match schema {
        Value::Object(object) => {
            let is_word =
                |one: &Value| one.as_object().is_some_and(|one| is_list(one) || one.get("const").is_some_and(Value::is_string));
            if let Some(Value::Array(choices)) = object.get_mut("oneOf")
                && choices.iter().any(is_word)
            {
                // Of one list, exactly one may match: the words in it stay as they are.
                choices.push(parameter());
                return;
            }
            object.values_mut().for_each(or_a_parameter);
            if is_list(object) {
                let mut words = serde_json::Map::new();
                words.extend(["type", "enum"].into_iter().filter_map(|key| Some((key.to_owned(), object.remove(key)?))));
                object.insert("anyOf".into(), json!([words, parameter()]));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(or_a_parameter),
        _ => {}
    }
}

/// Calls the definition of a kind's spec by the kind's key; schemars numbers types of equal names.
fn name_definition(schema: &mut Value, row: &Row) {
    let Some(given) = find_reference(schema, row) else { return };
    let Some(definition) = schema["definitions"].as_object_mut().and_then(|definitions| definitions.remove(&given)) else { return };
    rename(schema, &format!("#/definitions/{given}"), &format!("#/definitions/{}", row.key));
    if let Some(definitions) = schema["definitions"].as_object_mut() {
        definitions.insert(row.key.to_owned(), definition);
        // The definition may refer to others, and to itself.
        definitions.sort_keys();
    }
    rename(schema, &format!("#/definitions/{given}"), &format!("#/definitions/{}", row.key));
}

/// The name under which schemars filed the spec of a kind.
fn find_reference(schema: &Value, row: &Row) -> Option<String> {
    let entries = schema["definitions"].as_object()?.values();
    let property =
        entries.filter_map(|definition| definition["properties"].get(row.key)).find(|property| property["allOf"].is_array())?;
    Some(property["allOf"][0]["$ref"].as_str()?.rsplit('/').next()?.to_owned())
}

fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" && text == from => to.clone_into(text),
                    _ => rename(value, from, to),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, from, to)),
        _ => {}
    }
}

/// The schema of one type as a plan may write it, for tests that look at a part.
#[cfg(test)]
fn schema_of<T: schemars::JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    RecursiveTransform(as_read).transform(&mut schema);
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varying::Draw;

    #[test]
    fn every_kind_stands_in_the_schema_with_its_summary_and_spec() {
        let schema = schema();
        for (entry, rows) in
            [("ArrivalProcess", schedule::Arrivals::ALL), ("Fault", faults::Spec::ALL), ("Claim", verdict::Spec::ALL)]
        {
            for row in rows {
                let property = &schema["definitions"][entry]["properties"][row.key];
                assert_eq!(property["description"], row.summary, "{property}");
                assert_eq!(property["allOf"][0]["$ref"], format!("#/definitions/{}", row.key), "{property}");
                assert!(schema["definitions"][row.key]["type"].is_string(), "{}", row.key);
            }
        }
    }

    /// Goal: what `squall list` shows can be pasted into a plan. How: each example is put into a plan, which meets the schema and
    /// whose entry is read; what the plan as a whole lacks is another matter.
    #[test]
    fn every_example_meets_the_schema_and_is_read() {
        let validator = jsonschema::draft7::new(&schema()).unwrap_or_else(|error| panic!("{error}"));
        let entry = |list: &str, common: &str, row: &Row| format!("{list}:\n- {{{common}, {}: {}}}\n", row.key, row.example);
        let faults = faults::Spec::ALL.iter().map(|row| entry("faults", "name: f, at: a + 1s, for: 1s", row));
        let claims = verdict::Spec::ALL.iter().map(|row| entry("assert", "name: c, during: a", row));
        let loads = schedule::Arrivals::ALL.iter().map(|row| {
            let arrivals: schedule::Arrivals = row.as_value().parse().unwrap_or_else(|why| panic!("{}: {why}", row.key));
            let rate = if arrivals.has_own_rate() { "" } else { "rate: 100/s, " };
            format!("- {{name: m, {rate}arrivals: {}, request: {{get: /}}}}\n", row.as_value())
        });
        let draws = Draw::ALL
            .iter()
            .map(|row| format!("- {{name: m, rate: 1/s, draw: {{k: {}}}, request: {{get: \"/{{{{k}}}}\"}}}}\n", row.as_value()));
        for part in loads.chain(draws).chain(faults).chain(claims) {
            let text = format!(
                "plan: p\nclaim: c\ncluster: current\ntarget: {{url: http://127.0.0.1/, workload: a/deployment/b, autoscaler: a/hpa/b}}\n\
                 phases: [{{name: a, for: 10m}}]\nload:\n- {{name: l, rate: 100/s, request: {{get: /}}}}\n{part}"
            );
            let value = crate::plan::manifest::read_one(&text, "the example").unwrap_or_else(|problems| panic!("{problems}"));
            let errors: Vec<String> =
                validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert!(errors.is_empty(), "{part}: {errors:?}");
            if let Err(problems) = crate::plan::Plan::read_recorded(&text, &Default::default()) {
                let known = ["leave out `for`", "speaks of no fault"];
                let strange: Vec<_> =
                    problems.list().iter().filter(|problem| !known.iter().any(|known| problem.message.contains(known))).collect();
                assert!(strange.is_empty(), "{part}: {strange:?}");
            }
        }
    }

    /// Goal: an editor takes what the reader takes. How: a plan with a parameter for each sort of word, and one that has streams where
    /// there are none.
    #[test]
    fn a_parameter_may_stand_for_a_word_and_streams_need_a_protocol_that_has_them() {
        let validator = jsonschema::draft7::new(&schema()).unwrap_or_else(|error| panic!("{error}"));
        let meets = |text: &str| {
            let value = crate::plan::manifest::read_one(text, "the plan").unwrap_or_else(|problems| panic!("{problems}"));
            let read = crate::plan::Plan::read_recorded(text, &Default::default());
            (validator.is_valid(&value), read.map(|_| ()).map_err(|problems| problems.to_string()))
        };
        let plan = |load: &str| {
            format!(
                "plan: p\nclaim: c\nparams: {{protocol: http2, pacing: coarse, arrivals: poisson, tls: 'true', where: none, law: pareto}}\n\
                 cluster: ${{where}}\ntarget: {{url: 'https://127.0.0.1/', insecure: '${{tls}}'}}\ngenerator: {{pacing: '${{pacing}}'}}\n\
                 phases: [{{name: a, for: 10m}}]\nload:\n- {{name: l, rate: 100/s, request: {{get: /}}{load}}}\n"
            )
        };
        for good in [
            "",
            ", protocol: http2, streams: 5",
            ", protocol: '${protocol}', streams: 5",
            ", arrivals: '${arrivals}'",
            ", arrivals: {bursty: {on: 1s, off: 1s, periods: '${law}'}}",
        ] {
            assert_eq!(meets(&plan(good)), (true, Ok(())), "{good}");
        }
        for bad in [", streams: 5", ", protocol: http1, streams: 5"] {
            let (valid, read) = meets(&plan(bad));
            assert!(!valid && read.is_err(), "{bad}");
        }
        assert!(!meets(&plan(", protocol: http3")).0);
    }

    #[test]
    fn a_key_is_never_null_and_may_be_a_parameter() {
        #[derive(schemars::JsonSchema)]
        #[expect(dead_code, reason = "only its schema is looked at")]
        struct Part {
            length: Option<crate::units::Span>,
            count: Option<u32>,
        }
        let schema = schema_of::<Part>();
        let text = schema.to_string();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(schema["properties"]["count"]["type"], json!(["integer", "string"]));
    }
}
