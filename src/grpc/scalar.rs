//! One value of a field, from its JSON: the mapping of proto3, in which whole numbers may be texts, and numbers may have names.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, Kind, Value};

use super::json::{self, Json};

/// Either alphabet is read, padded or not.
const INDIFFERENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, INDIFFERENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, INDIFFERENT);

/// The value of `kind` that `json` says; `None` where it says none.
pub(super) fn read(kind: &Kind, json: &Json) -> Option<Value> {
    use json::Value as Said;
    Some(match (kind, &json.value) {
        (Kind::Double, said) => Value::F64(float(said)?),
        (Kind::Float, said) => {
            let wide = float(said)?;
            let narrow = wide as f32;
            Value::F32(Some(narrow).filter(|narrow| narrow.is_finite() || !wide.is_finite())?)
        }
        (Kind::Int32 | Kind::Sint32 | Kind::Sfixed32, said) => Value::I32(whole(said)?.try_into().ok()?),
        (Kind::Int64 | Kind::Sint64 | Kind::Sfixed64, said) => Value::I64(whole(said)?.try_into().ok()?),
        (Kind::Uint32 | Kind::Fixed32, said) => Value::U32(whole(said)?.try_into().ok()?),
        (Kind::Uint64 | Kind::Fixed64, said) => Value::U64(whole(said)?.try_into().ok()?),
        (Kind::Bool, Said::Bool(value)) => Value::Bool(*value),
        // What a parameter stands for is text.
        (Kind::Bool, Said::Text(text)) => Value::Bool(text.parse().ok()?),
        (Kind::String, Said::Text(text)) => Value::String(text.clone()),
        (Kind::Bytes, Said::Text(text)) => {
            let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
            Value::Bytes(decoded.ok()?.into())
        }
        (Kind::Enum(kind), Said::Text(name)) => Value::EnumNumber(kind.get_value_by_name(name)?.number()),
        (Kind::Enum(_), said @ Said::Number(_)) => Value::EnumNumber(whole(said)?.try_into().ok()?),
        (Kind::Message(kind), _) => Value::Message(DynamicMessage::deserialize(kind.clone(), json.plain()).ok()?),
        (Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_), _) => return None,
    })
}

fn whole(said: &json::Value) -> Option<i128> {
    /// Every whole number up to here is one of these, and is meant when it is written as in 1e3.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match said {
        json::Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => Some(whole),
            (None, Some(float)) if float.fract() == 0.0 && float.abs() <= EXACT => Some(float as i128),
            _ => None,
        },
        json::Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn float(said: &json::Value) -> Option<f64> {
    match said {
        json::Value::Number(number) => number.as_f64(),
        json::Value::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_that_fit() {
        let read = |kind: Kind, json: serde_json::Value| read(&kind, &json.into());
        for (kind, json, value) in [
            (Kind::Int32, json!(-2147483648i64), Some(Value::I32(i32::MIN))),
            (Kind::Int32, json!(2147483648i64), None),
            (Kind::Int32, json!("7"), Some(Value::I32(7))),
            (Kind::Int32, json!(1.5), None),
            (Kind::Int32, json!(1e3), Some(Value::I32(1000))),
            (Kind::Uint32, json!(-1), None),
            (Kind::Uint64, json!(u64::MAX), Some(Value::U64(u64::MAX))),
            (Kind::Uint64, json!("18446744073709551615"), Some(Value::U64(u64::MAX))),
            (Kind::Int64, json!(u64::MAX), None),
            (Kind::Double, json!(3), Some(Value::F64(3.0))),
            (Kind::Double, json!("-Infinity"), Some(Value::F64(f64::NEG_INFINITY))),
            (Kind::Double, json!("inf"), None),
            (Kind::Float, json!(1e39), None),
            (Kind::Bool, json!("true"), Some(Value::Bool(true))),
            (Kind::Bool, json!(1), None),
            (Kind::Bytes, json!("_-8"), Some(Value::Bytes(vec![0xff, 0xef].into()))),
            (Kind::Bytes, json!("/+8="), Some(Value::Bytes(vec![0xff, 0xef].into()))),
            (Kind::Bytes, json!("?"), None),
            (Kind::String, json!(null), None),
        ] {
            assert_eq!(read(kind.clone(), json.clone()), value, "{kind:?} {json}");
        }
    }
}
