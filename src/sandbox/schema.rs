//! The shape of every object that is served, as one table of types. It finds unknown fields and wrong types, tells strategic merge and
//! server-side apply which lists are keyed, reads protobuf, and becomes the OpenAPI document that `kubectl` asks for.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::LazyLock;

/// What a field holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    Text,
    /// A text that is an instant: RFC 3339, of whole seconds.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// Bytes: a text in base 64, as JSON has them.
    Bytes,
    Int32,
    Int64,
    Bool,
    /// A number or a text, kept as it is: `IntOrString`.
    NumberOrText,
    /// A number or a text that is kept as the text of a [quantity](super::quantity).
    Quantity,
    /// Anything: parts that the sandbox keeps without looking at them.
    Any,
    Struct(&'static str),
    Map(Box<Shape>),
    List(Box<Shape>, Keys),
}

/// How the elements of a list are told apart when it is merged.
#[derive(Clone, PartialEq, Debug)]
pub enum Keys {
    /// They are not: the list is replaced as a whole.
    Atomic,
    /// They are texts, each at most once.
    Set,
    /// By these fields; a strategic merge patch uses the first of them only.
    By(Vec<&'static str>),
}

/// A field of a struct.
#[derive(Clone, PartialEq, Debug)]
pub struct Field {
    pub shape: Shape,
    /// `None` for what protobuf does not carry.
    pub number: Option<Number>,
    /// Whether zero, `false` or the empty text says something else than nothing: protobuf writes them in any case.
    pub zero_is_said: bool,
}

/// Where protobuf has a field. Kubernetes never gives a number to another field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    Own(u32),
    /// In a message of its own, which JSON does not show: the message's number, and the field's in it.
    Within(u32, u32),
}

/// The fields of a struct, by name.
pub type Fields = BTreeMap<&'static str, Field>;

/// The fields of `name`; `None` when there is no such struct.
pub fn fields(name: &str) -> Option<&'static Fields> {
    TYPES.get(name)
}

/// What tells this schema from another one.
pub fn fingerprint() -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    TABLE.hash(&mut hasher);
    hasher.finish()
}

/// Every struct, by name.
pub fn all() -> &'static BTreeMap<&'static str, Fields> {
    &TYPES
}

static TYPES: LazyLock<BTreeMap<&'static str, Fields>> = LazyLock::new(|| {
    let lines = TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut types: BTreeMap<&'static str, Fields> = BTreeMap::new();
    let mut latest = "";
    for line in lines {
        // A line without a colon after its first word goes on with the type before it.
        let rest = match line.split_once(':') {
            Some((name, rest)) => {
                latest = name;
                rest
            }
            None => line,
        };
        let fields = types.entry(latest).or_default();
        for field in rest.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let mut words = field.split(' ');
            let (name, shape) =
                words.next().zip(words.next()).expect("every field of the table is a name, a shape and perhaps a number");
            let (shape, zero_is_said) = shape.strip_suffix('?').map_or((shape, false), |shape| (shape, true));
            fields.insert(name, Field { shape: shape_of(shape), number: words.next().map(number_of), zero_is_said });
        }
    }
    types
});

fn number_of(text: &str) -> Number {
    let number = |text: &str| text.parse().expect("a number of the table is one, or two with a dot between them");
    match text.split_once('.') {
        Some((message, field)) => Number::Within(number(message), number(field)),
        None => Number::Own(number(text)),
    }
}

fn shape_of(text: &'static str) -> Shape {
    if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return Shape::Map(Box::new(shape_of(inner)));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return match inner.split_once('/') {
            None => Shape::List(Box::new(shape_of(inner)), Keys::Atomic),
            Some((of, "")) => Shape::List(Box::new(shape_of(of)), Keys::Set),
            Some((of, keys)) => Shape::List(Box::new(shape_of(of)), Keys::By(keys.split('+').collect())),
        };
    }
    match text {
        "s" => Shape::Text,
        "t" => Shape::Time,
        "u" => Shape::MicroTime,
        "y" => Shape::Bytes,
        "i" => Shape::Int32,
        "l" => Shape::Int64,
        "b" => Shape::Bool,
        "n" => Shape::NumberOrText,
        "q" => Shape::Quantity,
        "o" => Shape::Any,
        name => Shape::Struct(name),
    }
}

/// `Type: field shape number, field shape number`. Shapes: `s` text, `t` time, `u` time with microseconds, `y` bytes, `i` int32, `l` int64,
/// `b` bool, `n` number or text, `q` quantity, `o` anything, a type's name, `{shape}` a map, `[shape]` a list that is replaced whole,
/// `[shape/]` a set, `[shape/a+b]` a list keyed by a and b. A shape with `?` means something by zero, too. The number is protobuf's (`2.1`:
/// in the message 2); what has none is not in it.
const TABLE: &str = include_str!("schema/types.txt");

#[cfg(test)]
mod tests {
    use super::super::resource::RESOURCES;
    use super::*;

    #[test]
    fn every_name_in_the_table_is_a_type_and_every_resource_has_one() {
        fn check(shape: &Shape) {
            match shape {
                Shape::Struct(name) => assert!(fields(name).is_some(), "{name} is used and not described"),
                Shape::Map(inner) => check(inner),
                Shape::List(inner, keys) => {
                    check(inner);
                    if let (Keys::By(keys), Shape::Struct(name)) = (keys, &**inner) {
                        for key in keys {
                            assert!(fields(name).is_some_and(|fields| fields.contains_key(key)), "{name} has no {key}");
                        }
                    }
                }
                _ => {}
            }
        }
        all().values().flat_map(|fields| fields.values()).for_each(|field| check(&field.shape));
        for resource in RESOURCES {
            assert!(fields(resource.kind).is_some(), "{} is served and not described", resource.kind);
        }
    }

    #[test]
    fn no_two_fields_of_a_type_have_one_number() {
        for (name, fields) in all() {
            let numbers: Vec<Number> = fields.values().filter_map(|field| field.number).collect();
            for (i, number) in numbers.iter().enumerate() {
                assert!(!numbers[..i].contains(number), "{name} has {number:?} twice");
                if let Number::Within(message, _) = number {
                    assert!(
                        !numbers.contains(&Number::Own(*message)),
                        "{name} has {message} as a field and as a message without one"
                    );
                }
            }
        }
        assert_eq!(all()["Probe"]["httpGet"].number, Some(Number::Within(1, 2)));
        assert!(all()["DeploymentSpec"]["replicas"].zero_is_said && !all()["DeploymentSpec"]["paused"].zero_is_said);
    }
}
