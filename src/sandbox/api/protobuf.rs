//! Bodies in protobuf, which clients in Go send for every kind that they know, and `kubectl create` with them. An envelope says version and
//! kind; in it is the object, as a message whose fields the [schema](super::super::schema) numbers. What has no number there is passed
//! over, as a server passes over what a later release has added. Answers are JSON, which these clients take as gladly.

use serde_json::{Map, Value, json};

use super::super::base64;
use super::super::schema::{self, Field, Number, Shape};
use super::super::store::seconds;
use super::failure::Failure;

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What a body begins with: no JSON and no YAML does.
const MAGIC: &[u8] = b"k8s\0";

/// The object of the type `shape` that is in `body`, as JSON has it.
pub fn object(body: &[u8], shape: &str) -> Result<Value, Failure> {
    opened(body, shape).map_err(|why| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {shape}): error decoding protobuf: {why}"
        ))
    })
}

fn opened(body: &[u8], shape: &str) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("it does not begin with the four bytes that Kubernetes marks protobuf by")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Parts(envelope) {
        match part? {
            (1, Part::Bytes(of_type)) => {
                for part in Parts(of_type) {
                    match part? {
                        (1, Part::Bytes(said)) => api_version = text(said)?,
                        (2, Part::Bytes(said)) => kind = text(said)?,
                        _ => {}
                    }
                }
            }
            (2, Part::Bytes(object)) => raw = object,
            (3, Part::Bytes([_, ..])) => return Err("its content is encoded once more, which no client does by itself".into()),
            _ => {}
        }
    }
    let mut object = Map::new();
    object.insert("kind".into(), json!(kind));
    object.insert("apiVersion".into(), json!(api_version));
    message(shape, None, raw, &mut object)?;
    Ok(Value::Object(object))
}

/// Reads the fields of a message into an object. `within` is the number of a message whose fields JSON shows as those of the one around it.
fn message(shape: &str, within: Option<u32>, bytes: &[u8], object: &mut Map<String, Value>) -> Result<(), String> {
    let fields = schema::fields(shape).ok_or_else(|| format!("{shape} is no type that is served"))?;
    for part in Parts(bytes) {
        let (number, part) = part?;
        let sought = within.map_or(Number::Own(number), |within| Number::Within(within, number));
        if let Some((name, field)) = fields.iter().find(|(_, field)| field.number == Some(sought)) {
            read(field, part, object, name).map_err(|why| format!("{shape}.{name}: {why}"))?;
        } else if within.is_none()
            && let Part::Bytes(inner) = part
            && fields.values().any(|field| matches!(field.number, Some(Number::Within(outer, _)) if outer == number))
        {
            message(shape, Some(number), inner, object)?;
        }
    }
    Ok(())
}

fn read(field: &Field, part: Part, object: &mut Map<String, Value>, name: &str) -> Result<(), String> {
    match &field.shape {
        Shape::List(inner, _) => {
            let list = object.entry(name).or_insert_with(|| json!([])).as_array_mut().expect("made as a list just before");
            match (&**inner, part) {
                // Numbers may come packed: many in one.
                (Shape::Int32 | Shape::Int64 | Shape::Bool, Part::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        list.extend(value(inner, Part::Varint(varint(&mut packed)?))?);
                    }
                }
                (inner, part) => list.extend(value(inner, part)?),
            }
        }
        Shape::Map(inner) => {
            let Part::Bytes(entry) = part else { return Err(WRONG_WIRE_TYPE.into()) };
            let (mut key, mut held) = (String::new(), nothing(inner));
            for part in Parts(entry) {
                match part? {
                    (1, Part::Bytes(said)) => key = text(said)?,
                    (2, part) => held = value(inner, part)?.unwrap_or(held),
                    _ => {}
                }
            }
            let map = object.entry(name).or_insert_with(|| json!({})).as_object_mut().expect("made as a map just before");
            map.insert(key, held);
        }
        shape => {
            let told = value(shape, part)?;
            let says_nothing = |value: &Value| match shape {
                Shape::Text | Shape::Int32 | Shape::Int64 | Shape::Bool => !field.zero_is_said && is_zero(value),
                _ => false,
            };
            if let Some(value) = told.filter(|value| !says_nothing(value)) {
                object.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// One value; `None` for a time that is none.
fn value(shape: &Shape, part: Part) -> Result<Option<Value>, String> {
    Ok(Some(match (shape, part) {
        (Shape::Text, Part::Bytes(bytes)) => json!(text(bytes)?),
        (Shape::Bytes, Part::Bytes(bytes)) => json!(base64::encode(bytes)),
        // Whatever is negative is ten bytes long, of 32 bits, too.
        (Shape::Int32, Part::Varint(number)) => json!(number as i32),
        (Shape::Int64, Part::Varint(number)) => json!(number as i64),
        (Shape::Bool, Part::Varint(number)) => json!(number != 0),
        (Shape::Time | Shape::MicroTime, Part::Bytes([])) => return Ok(None),
        (Shape::Time, Part::Bytes(bytes)) => json!(seconds(time(bytes)?)),
        (Shape::MicroTime, Part::Bytes(bytes)) => json!(format!("{:.6}", time(bytes)?)),
        (Shape::NumberOrText, Part::Bytes(bytes)) => number_or_text(bytes)?,
        (Shape::Quantity, Part::Bytes(bytes)) => {
            let said = field_of(bytes, 1)?;
            if said.is_empty() { json!("0") } else { json!(text(said)?) }
        }
        (Shape::Any, Part::Bytes(bytes)) => serde_json::from_slice(field_of(bytes, 1)?)
            .map_err(|error| format!("what is kept as it comes must be JSON: {error}"))?,
        (Shape::Struct(name), Part::Bytes(bytes)) => {
            let mut object = Map::new();
            message(name, None, bytes, &mut object)?;
            Value::Object(object)
        }
        _ => return Err(WRONG_WIRE_TYPE.into()),
    }))
}

const WRONG_WIRE_TYPE: &str = "proto: wrong wireType";

/// What a map's entry without a value holds.
fn nothing(shape: &Shape) -> Value {
    match shape {
        Shape::Struct(_) => json!({}),
        Shape::Quantity => json!("0"),
        Shape::Text | Shape::Bytes => json!(""),
        _ => Value::Null,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

/// The bytes of a message's only field.
fn field_of(bytes: &[u8], wanted: u32) -> Result<&[u8], String> {
    let mut found = &[][..];
    for part in Parts(bytes) {
        if let (number, Part::Bytes(bytes)) = part?
            && number == wanted
        {
            found = bytes;
        }
    }
    Ok(found)
}

/// Seconds and nanoseconds since 1970.
fn time(bytes: &[u8]) -> Result<jiff::Timestamp, String> {
    let (mut second, mut nanos) = (0, 0);
    for part in Parts(bytes) {
        match part? {
            (1, Part::Varint(number)) => second = number as i64,
            (2, Part::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    jiff::Timestamp::new(second, nanos).map_err(|error| error.to_string())
}

/// Which of the two it is, the number, the text.
fn number_or_text(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut said) = (false, 0, String::new());
    for part in Parts(bytes) {
        match part? {
            (1, Part::Varint(kind)) => is_text = kind == 1,
            (2, Part::Varint(value)) => number = value as i32,
            (3, Part::Bytes(bytes)) => said = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(said) } else { json!(number) })
}

/// What a field's number leads to. Fractions occur nowhere in what is served, and are passed over.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The numbered parts of a message, in order. After one that is broken there is none.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<(u32, Part<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = part(&mut self.0);
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Part<'a>), String> {
    let tag = varint(bytes)?;
    let number =
        u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or_else(|| format!("proto: illegal tag {}", tag >> 3))?;
    let part = match tag & 7 {
        0 => Part::Varint(varint(bytes)?),
        1 => taken(bytes, 8).map(|_| Part::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Part::Bytes(taken(bytes, length)?)
        }
        5 => taken(bytes, 4).map(|_| Part::Fixed)?,
        _ => return Err(WRONG_WIRE_TYPE.into()),
    };
    Ok((number, part))
}

fn taken<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let (taken, rest) = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length)).ok_or("unexpected EOF")?;
    *bytes = rest;
    Ok(taken)
}

/// Seven bits a byte, the lowest first, the eighth bit in all but the last.
fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0;
    for i in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or("unexpected EOF")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("proto: integer overflow".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32, value: u64) -> Vec<u8> {
        [written(u64::from(number << 3)), written(value)].concat()
    }

    fn bytes(number: u32, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let tag = written(u64::from(number << 3 | 2));
        [tag, written(bytes.as_ref().len() as u64), bytes.as_ref().to_vec()].concat()
    }

    fn written(mut value: u64) -> Vec<u8> {
        let mut out = vec![];
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn envelope(api_version: &str, kind: &str, object: Vec<u8>) -> Vec<u8> {
        [MAGIC.to_vec(), bytes(1, [bytes(1, api_version), bytes(2, kind)].concat()), bytes(2, object)].concat()
    }

    #[test]
    fn an_object_is_what_it_would_be_in_json() {
        let probe = bytes(
            11,
            [bytes(1, bytes(2, [bytes(1, "/ready"), bytes(2, [number(1, 1), bytes(3, "http")].concat())].concat()))].concat(),
        );
        let requests = bytes(8, bytes(2, [bytes(1, "cpu"), bytes(2, bytes(1, "100m"))].concat()));
        let port = bytes(6, [number(2, 0), number(3, 8080), bytes(4, "TCP")].concat());
        let container = bytes(2, [bytes(1, "web"), bytes(3, "a"), bytes(4, "b"), port, requests, probe, number(16, 0)].concat());
        let groups = bytes(14, [number(4, 7), bytes(4, [written(8), written(300)].concat())].concat());
        let affinity = bytes(18, []);
        let template = bytes(3, [bytes(1, []), bytes(2, [container, groups, affinity, number(4, 0)].concat())].concat());
        let count = |pods: u64| [number(1, 0), number(2, pods)].concat();
        let surge = bytes(4, bytes(2, [bytes(1, count(0)), bytes(2, count(1))].concat()));
        let spec = bytes(2, [number(1, 0), template, surge, number(5, 0), number(7, 1), number(6, u64::MAX)].concat());
        let labels = bytes(11, [bytes(1, "app"), bytes(2, "web")].concat());
        let created = bytes(8, [number(1, 86_400), number(2, 0)].concat());
        let meta = bytes(1, [bytes(1, "web"), bytes(2, ""), labels, created, bytes(9, []), bytes(99, "later")].concat());
        let read =
            object(&envelope("apps/v1", "Deployment", [meta, spec, bytes(3, [])].concat()), "Deployment").expect("it can be read");
        let expected = json!({
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "web", "labels": {"app": "web"}, "creationTimestamp": "1970-01-02T00:00:00Z"},
            "spec": {
                "replicas": 0, "paused": true, "revisionHistoryLimit": -1, "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"metadata": {}, "spec": {
                    "containers": [{"name": "web", "command": ["a"], "args": ["b"], "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "100m"}}, "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}}}],
                    "securityContext": {"supplementalGroups": [7, 8, 300]}, "affinity": {}, "terminationGracePeriodSeconds": 0,
                }},
            },
            "status": {},
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn bytes_times_and_what_is_kept_as_it_comes_have_their_forms() {
        let secret = bytes(2, [bytes(1, "key"), bytes(2, [0, 255])].concat());
        let empty = bytes(2, bytes(1, "none"));
        let read = object(&envelope("v1", "Secret", [secret, empty].concat()), "Secret").expect("it can be read");
        assert_eq!(read["data"], json!({"key": "AP8=", "none": ""}));
        let renewed = bytes(2, bytes(4, [number(1, 1), number(2, 2_000)].concat()));
        let read = object(&envelope("coordination.k8s.io/v1", "Lease", renewed), "Lease").expect("it can be read");
        assert_eq!(read["spec"]["renewTime"], "1970-01-01T00:00:01.000002Z");
        let revision = [bytes(2, bytes(1, "{\"spec\":1}")), number(3, 4)].concat();
        let read = object(&envelope("apps/v1", "ControllerRevision", revision), "ControllerRevision").expect("it can be read");
        assert_eq!((&read["data"], &read["revision"]), (&json!({"spec": 1}), &json!(4)));
    }

    #[test]
    fn what_is_broken_is_told_with_its_place() {
        let name = |bytes: Vec<u8>| envelope("v1", "Pod", bytes);
        for (body, why) in [
            (b"{}".to_vec(), "four bytes"),
            (MAGIC.iter().chain(&[0x12, 0x7f]).copied().collect(), "unexpected EOF"),
            (name(number(1, 1)), "Pod.metadata: proto: wrong wireType"),
            (name(bytes(1, bytes(1, [0xff]))), "Pod.metadata: ObjectMeta.name: invalid utf-8"),
            (name(vec![0x80; 11]), "integer overflow"),
            (name(vec![0x0b]), "wrong wireType"),
            (name(bytes(1, bytes(8, number(1, u64::MAX >> 1)))), "Pod.metadata: ObjectMeta.creationTimestamp"),
        ] {
            let failure = object(&body, "Pod").unwrap_err();
            assert!(failure.code == 400 && failure.message.contains(why), "{why}: {}", failure.message);
        }
    }
}
