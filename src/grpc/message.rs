//! From a message as it is written to its wire format, by its descriptor: JSON as the mapping of proto3 has it, with everything that is
//! wrong found at once. Fields by themselves are encoded by `prost-reflect`; what is around them is done here, since each field must know its place, and
//! a text may hold names whose values come with each call. Fields keep the order in which they are written, so that a message is always
//! the same bytes.

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

use super::descriptors::Method;
use super::json::{Entry, Json, Value};
use super::wire::Message;
use super::{Part, Wrong, scalar};
use crate::varying::template;

/// How deep messages may stand in one another: as deep as a plan's text may be.
const DEPTH_MOST: usize = 64;

impl Message {
    /// `json` as the message that `method` takes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn of(json: &Json, method: &Method) -> Result<Message, Vec<Wrong>> {
        let mut reading = Reading { wrong: Vec::new(), path: Vec::new() };
        let mut message = Message::default();
        reading.message(&method.input(), json, &mut message);
        if reading.wrong.is_empty() { Ok(message) } else { Err(reading.wrong) }
    }
}

/// What has been found wrong, and where it is being read.
struct Reading {
    wrong: Vec<Wrong>,
    path: Vec<String>,
}

impl Reading {
    fn wrong(&mut self, at: u32, message: impl Into<String>) -> &mut Wrong {
        let path = self.path.concat();
        let path = path.strip_prefix('.').unwrap_or(&path).to_owned();
        self.wrong.push(Wrong::new(Part::Message(at, path), message));
        self.wrong.last_mut().expect("one was just pushed")
    }

    fn within<T>(&mut self, step: String, read: impl FnOnce(&mut Reading) -> T) -> T {
        self.path.push(step);
        let read = read(self);
        self.path.pop();
        read
    }

    /// A message and all of its fields.
    fn message(&mut self, kind: &MessageDescriptor, json: &Json, out: &mut Message) {
        if self.path.len() > DEPTH_MOST {
            self.wrong(json.at, format!("messages stand in one another more than {DEPTH_MOST} deep"));
            return;
        }
        match unfolded(kind, json) {
            Folding::None => {}
            Folding::Unfolded(json) => return self.fields(kind, &json, out),
            Folding::Opaque => {
                if let Some(bytes) = self.whole(kind, json) {
                    out.push_fixed(&bytes);
                }
                return;
            }
        }
        self.fields(kind, json, out);
    }

    fn fields(&mut self, kind: &MessageDescriptor, json: &Json, out: &mut Message) {
        let Value::Map(entries) = &json.value else {
            self.wrong(json.at, format!("{} is a message, and this is none", kind.full_name())).help =
                Some("write its fields, as in {name: value}".into());
            return;
        };
        let mut given: Vec<(FieldDescriptor, &str)> = Vec::new();
        for Entry { key, at, value } in entries {
            let field = kind.get_field_by_json_name(key).or_else(|| kind.get_field_by_name(key));
            let Some(field) = field else {
                let known = kind.fields().map(|field| field.name().to_owned()).collect();
                let wrong = self.wrong(*at, format!("{} has no field `{key}`", kind.full_name()));
                wrong.choice = Some((key.clone(), known));
                continue;
            };
            if let Some((_, other)) = given.iter().find(|(known, _)| *known == field) {
                let message = format!("`{other}` and `{key}` are the same field");
                self.wrong(*at, message);
                continue;
            }
            let alone = |known: &FieldDescriptor| {
                known.containing_oneof().is_some_and(|oneof| field.containing_oneof().as_ref() == Some(&oneof))
            };
            if let Some((_, other)) = given.iter().find(|(known, _)| alone(known)).filter(|_| value.value != Value::Null) {
                let message = format!("a message has only one of `{other}` and `{key}`");
                self.wrong(*at, message);
            }
            if value.value != Value::Null {
                given.push((field.clone(), key));
            }
            self.within(format!(".{key}"), |reading| reading.field(&field, value, out));
        }
        for field in kind.fields().filter(|field| field.is_required()) {
            if !given.iter().any(|(known, _)| *known == field) {
                self.wrong(json.at, format!("`{}` is required in {}, and missing", field.name(), kind.full_name()));
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor, json: &Json, out: &mut Message) {
        // Nothing is what it is when it is not said; but for a google.protobuf.Value, which may be nothing.
        if json.value == Value::Null && !is_called(field, "google.protobuf.Value") {
            return;
        }
        match (&json.value, field.kind()) {
            (Value::Map(entries), Kind::Message(entry)) if field.is_map() => {
                for pair in entries {
                    self.within(format!("[{}]", pair.key), |reading| reading.pair(field, &entry, pair, out));
                }
            }
            _ if field.is_map() => {
                self.wrong(json.at, format!("`{}` is a map, and this is none", field.name()));
            }
            (Value::List(items), _) if field.is_list() => {
                let scalars = || items.iter().map(|item| scalar::read(&field.kind(), item)).collect::<Option<Vec<_>>>();
                if !matches!(field.kind(), Kind::Message(_))
                    && !items.iter().any(has_names)
                    && let Some(all) = scalars()
                {
                    return out.push_fixed(&alone(field, prost_reflect::Value::List(all)));
                }
                for (n, item) in items.iter().enumerate() {
                    self.within(format!("[{n}]"), |reading| reading.item(field, item, out));
                }
            }
            _ if field.is_list() => {
                self.wrong(json.at, format!("`{}` is a list, and this is none", field.name()));
            }
            _ => self.item(field, json, out),
        }
    }

    /// An entry of a map, which is a message of its key and its value.
    fn pair(&mut self, field: &FieldDescriptor, entry: &MessageDescriptor, pair: &Entry, out: &mut Message) {
        let key = match (entry.map_entry_key_field().kind(), pair.key.as_str()) {
            (Kind::Bool, "true") => Value::Bool(true),
            (Kind::Bool, "false") => Value::Bool(false),
            (_, text) => Value::Text(template::escaped(text)),
        };
        let key = Json { at: pair.at, value: key };
        let mut message = Message::default();
        self.item(&entry.map_entry_key_field(), &key, &mut message);
        self.item(&entry.map_entry_value_field(), &pair.value, &mut message);
        out.push_nested(field.number(), message);
    }

    /// One value of a field.
    fn item(&mut self, field: &FieldDescriptor, json: &Json, out: &mut Message) {
        match (field.kind(), &json.value) {
            (Kind::Message(kind), _) if !field.is_group() => {
                let mut message = Message::default();
                self.message(&kind, json, &mut message);
                out.push_nested(field.number(), message);
            }
            (Kind::String, Value::Text(text)) if has_names(json) => out.push_text(field.number(), text),
            _ if has_names(json) => {
                let message = format!("values stand in texts alone, and `{}` is {}", field.name(), in_words(&field.kind()));
                self.wrong(json.at, message).help = Some("write {{{{ for two braces".into());
            }
            _ => {
                match scalar::read(&field.kind(), json) {
                    Some(value) if field.is_list() => out.push_fixed(&alone(field, prost_reflect::Value::List(vec![value]))),
                    Some(value) => out.push_fixed(&alone(field, value)),
                    None => {
                        let message = format!("`{}` is {}, and this is not", field.name(), in_words(&field.kind()));
                        let wrong = self.wrong(json.at, message);
                        if let (Kind::Enum(kind), Value::Text(text)) = (field.kind(), &json.value) {
                            // What is written may be a secret, and is not repeated: it is only looked for among the names.
                            wrong.choice = Some((text.clone(), kind.values().map(|value| value.name().to_owned()).collect()));
                        }
                        if let (Kind::String, Value::Number(_) | Value::Bool(_)) = (field.kind(), &json.value) {
                            wrong.help = Some("put it in quotes".into());
                        }
                    }
                }
            }
        }
    }

    /// A message that has a form of its own in JSON.
    fn whole(&mut self, kind: &MessageDescriptor, json: &Json) -> Option<Vec<u8>> {
        if has_names(json) {
            self.wrong(json.at, format!("values stand in texts alone, and this is {}", form(kind.full_name()))).help =
                Some("write {{{{ for two braces".into());
            return None;
        }
        let read = DynamicMessage::deserialize(kind.clone(), json.plain()).ok();
        if read.is_none() {
            self.wrong(json.at, format!("this is not {}", form(kind.full_name())));
        }
        read.map(|message| message.encode_to_vec())
    }
}

/// How a message of a well-known type is read.
enum Folding {
    /// As any other.
    None,
    /// As any other, once it is written out.
    Unfolded(Json),
    /// As it is written: it has a form of its own in JSON.
    Opaque,
}

/// Well-known types that stand for their content, written out as the messages that they are.
fn unfolded(kind: &MessageDescriptor, json: &Json) -> Folding {
    let at = json.at;
    let map = |key: &str, value: Value| {
        Folding::Unfolded(Json { at, value: Value::Map(vec![Entry { key: key.to_owned(), at, value: Json { at, value } }]) })
    };
    match (kind.full_name(), &json.value) {
        ("google.protobuf.Struct", Value::Map(_)) => map("fields", json.value.clone()),
        ("google.protobuf.ListValue", Value::List(_)) => map("values", json.value.clone()),
        ("google.protobuf.StringValue", Value::Text(_)) => map("value", json.value.clone()),
        ("google.protobuf.Value", value) => match value {
            Value::Null => map("null_value", Value::Text("NULL_VALUE".into())),
            Value::Bool(_) => map("bool_value", value.clone()),
            Value::Number(_) => map("number_value", value.clone()),
            Value::Text(_) => map("string_value", value.clone()),
            Value::List(_) => map("list_value", value.clone()),
            Value::Map(_) => map("struct_value", value.clone()),
        },
        (name, _) => match name.strip_prefix("google.protobuf.") {
            Some(
                "Any" | "Timestamp" | "Duration" | "FieldMask" | "Struct" | "ListValue" | "Empty" | "DoubleValue" | "FloatValue"
                | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue" | "StringValue" | "BytesValue",
            ) => Folding::Opaque,
            _ => Folding::None,
        },
    }
}

fn is_called(field: &FieldDescriptor, name: &str) -> bool {
    matches!(field.kind(), Kind::Message(kind) if kind.full_name() == name)
}

/// A field by itself, in the wire format.
fn alone(field: &FieldDescriptor, value: prost_reflect::Value) -> Vec<u8> {
    let mut message = DynamicMessage::new(field.parent_message().clone());
    message.set_field(field, value);
    message.encode_to_vec()
}

/// Whether a text in it is not simply text.
fn has_names(json: &Json) -> bool {
    json.texts().iter().any(|(text, _)| text.contains("{{"))
}

fn in_words(kind: &Kind) -> String {
    match kind {
        Kind::Double | Kind::Float => "a number".into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => format!("a whole number from {} to {}", i32::MIN, i32::MAX),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
        Kind::Uint32 | Kind::Fixed32 => format!("a whole number from 0 to {}", u32::MAX),
        Kind::Uint64 | Kind::Fixed64 => format!("a whole number from 0 to {}", u64::MAX),
        Kind::Bool => "`true` or `false`".into(),
        Kind::String => "a text".into(),
        Kind::Bytes => "bytes, written in base64".into(),
        Kind::Message(kind) => form(kind.full_name()).into(),
        Kind::Enum(kind) => format!("one of {}", kind.full_name()),
    }
}

/// How a message of that name is written.
fn form(name: &str) -> &str {
    match name {
        "google.protobuf.Timestamp" => "a moment, as in \"2026-01-31T09:30:00Z\"",
        "google.protobuf.Duration" => "a length of time in seconds, as in \"1.5s\"",
        "google.protobuf.FieldMask" => "a list of fields in a text, as in \"name,price.cents\"",
        "google.protobuf.Any" => "a message with its type, as in {\"@type\": type.googleapis.com/shop.Item, ...}",
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => "a number",
        "google.protobuf.BoolValue" => "`true` or `false`",
        "google.protobuf.StringValue" => "a text",
        "google.protobuf.BytesValue" => "bytes, written in base64",
        "google.protobuf.Struct" => "a map",
        "google.protobuf.ListValue" => "a list",
        "google.protobuf.Empty" => "an empty message, {}",
        name if name.starts_with("google.protobuf.") && name.ends_with("Value") => "a whole number that fits",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_reflect::prost::bytes::Bytes;
    use serde_json::json;

    use super::super::{Descriptors, MethodName};
    use super::*;
    use crate::varying::Values;

    const SHOP: &[u8] = include_bytes!("../../plans/protos/shop.protoset");

    fn pay() -> Method {
        let name: MethodName = "shop.Checkout/Pay".parse().expect("a method");
        Descriptors::read(SHOP).and_then(|shop| shop.method(&name)).expect("the shop has it")
    }

    fn written(json: serde_json::Value, values: &[(&str, &str)]) -> Vec<u8> {
        let message = Message::of(&json.into(), &pay()).unwrap_or_else(|wrongs| panic!("{wrongs:?}"));
        let names: Vec<String> = values.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut all = Values::new();
        values.iter().for_each(|(_, value)| all.push(|out| out.extend_from_slice(value.as_bytes())));
        let mut out = Vec::new();
        message.template(&names).write(&all, &mut out);
        out
    }

    /// Read back, as JSON.
    fn read(bytes: &[u8]) -> serde_json::Value {
        let message = DynamicMessage::decode(pay().input(), Bytes::copy_from_slice(bytes)).expect("a message");
        serde_json::to_value(&message).expect("JSON")
    }

    /// Goal: what is written is what is sent. How: a message with a field of every kind is encoded and read back.
    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let order = json!({
            "user": "ann", "items": [{"name": "pen", "count": 2, "tags": ["a", "", "b"]}, {"name": "ink"}, {}], "cents": "1250",
            "currency": "EUR", "labels": {"z": "1", "a": ""}, "due": "2026-01-31T09:30:00Z", "voucherCode": "", "token": "AAECAw==",
            "express": true, "notes": {"deep": {"list": [1.5, null, "x", true, {}]}, "none": null}, "giftNote": "hi",
            "ratings": [1.5, 2.0], "spares": {"-3": {"name": "nib"}, "7": {}},
        });
        assert_eq!(read(&written(order.clone(), &[])), order);
        assert_eq!(written(json!({}), &[]), b"");
        // By the names of the .proto file too, numbers for enums, and nothing for what is not said.
        let same = json!({"voucher_code": "v", "currency": 2, "gift_note": "", "user": null, "items": null, "ratings": []});
        assert_eq!(read(&written(same, &[])), json!({"voucherCode": "v", "currency": "USD", "giftNote": ""}));
    }

    proptest! {
        /// Goal: no descriptor set, and no message for what one says, is too much. How: the shop's own with some bytes of it changed, which
        /// is mostly no set any more, and sometimes one of other types.
        #[test]
        fn whatever_types_there_are_a_message_is_made_or_refused(changes in prop::collection::vec((0..SHOP.len(), any::<u8>()), 0..4)) {
            let mut set = SHOP.to_vec();
            changes.into_iter().for_each(|(at, byte)| set[at] = byte);
            let order = json!({
                "user": "{{who}}", "items": [{"name": "pen", "count": 2, "tags": ["a", "{{who}}"]}], "cents": "1250", "currency": "EUR",
                "labels": {"z": "1"}, "due": "2026-01-31T09:30:00Z", "card": "", "token": "AAECAw==", "express": true,
                "notes": {"deep": [1.5, null]}, "giftNote": "hi", "ratings": [1.5], "spares": {"-3": {"name": "nib"}},
            });
            let method = Descriptors::read(&set).and_then(|shop| shop.method(&"shop.Checkout/Pay".parse().expect("a method")));
            if let Ok(method) = method {
                let _ = Message::of(&order.into(), &method);
            }
        }
    }

    /// The same plan sends the same bytes: no table that is walked in an order of its own stands between.
    #[test]
    fn a_message_is_always_the_same_bytes() {
        let keys = |n: usize| (0..n).map(|n| (format!("k{n}"), json!(n.to_string()))).collect::<serde_json::Map<_, _>>();
        let order = json!({"labels": keys(20), "notes": keys(20), "items": [{"name": "pen"}], "cents": 1});
        let first = written(order.clone(), &[]);
        assert!((0..20).all(|_| written(order.clone(), &[]) == first));
        let at = |text: &str| first.windows(text.len()).position(|here| here == text.as_bytes()).expect("it is in there");
        assert!(at("k1") < at("k2") && at("k18") < at("k19"));
    }

    #[test]
    fn names_in_texts_are_filled_wherever_these_stand() {
        let order = json!({
            "user": "{{who}}@shop", "items": [{"name": "{{what}}", "count": 1, "tags": ["x", "{{who}}"]}, {"name": "a{{{{b"}],
            "labels": {"{{key": "{{what}}"}, "giftNote": "for {{who}}", "notes": {"a": ["{{what}}"]}, "card": "{{none}}", "cents": 3,
        });
        let long = "x".repeat(300);
        let sent = written(order, &[("who", "ann"), ("what", &long), ("none", "")]);
        let expected = json!({
            "user": "ann@shop", "items": [{"name": long, "count": 1, "tags": ["x", "ann"]}, {"name": "a{{b"}],
            "labels": {"{{key": long}, "giftNote": "for ann", "notes": {"a": [long]}, "card": "", "cents": "3",
        });
        assert_eq!(read(&sent), expected);
    }

    /// Goal: everything that is wrong is found at once, where it is, and no value is repeated.
    #[test]
    fn what_is_wrong_is_found_where_it_stands() {
        let order = json!({
            "usr": "hunter2", "cents": "hunter2", "currency": "hunter2", "items": [{"count": -1}, "hunter2", {"tags": [1]}], "user": 5,
            "labels": ["hunter2"], "due": "hunter2", "card": "a", "voucherCode": "b", "voucher_code": "c", "token": "hunter2!",
            "express": "hunter2", "spares": {"hunter2": {}, "1": {"nme": 1}}, "notes": 3, "ratings": [1, "hunter2"],
            "giftNote": "{{n}}",
        });
        let wrongs = Message::of(&order.into(), &pay()).expect_err("nearly all of it");
        let lines: Vec<String> = wrongs.iter().map(Wrong::to_string).collect();
        let said = lines.join("\n");
        for line in [
            "message: shop.Order has no field `usr` (there are user, items, cents,",
            "message, at `cents`: `cents` is a whole number from -9223372036854775808 to 9223372036854775807, and this is not",
            "message, at `currency`: `currency` is one of shop.Currency, and this is not (there are CURRENCY_UNSPECIFIED, EUR, USD)",
            "message, at `items[0].count`: `count` is a whole number from 0 to 4294967295, and this is not",
            "message, at `items[1]`: shop.Item is a message, and this is none (write its fields, as in {name: value})",
            "message, at `items[2].tags[0]`: `tags` is a text, and this is not (put it in quotes)",
            "message, at `user`: `user` is a text, and this is not (put it in quotes)",
            "message, at `labels`: `labels` is a map, and this is none",
            "message, at `due`: this is not a moment, as in",
            "message: a message has only one of `card` and `voucherCode`",
            "message: `voucherCode` and `voucher_code` are the same field",
            "message, at `token`: `token` is bytes, written in base64, and this is not",
            "message, at `express`: `express` is `true` or `false`, and this is not",
            "message, at `spares[hunter2]`: `key` is a whole number",
            "message, at `spares[1]`: shop.Item has no field `nme` (there are name, count, tags)",
            "message, at `notes`: this is not a map",
            "message, at `ratings[1]`: `ratings` is a number, and this is not",
        ] {
            assert!(said.contains(line), "{line} is missing in\n{said}");
        }
        assert_eq!(wrongs.len(), 17, "{said}");
        assert!(!said.replace("spares[hunter2]", "").contains("hunter2"), "{said}");
    }

    #[test]
    fn names_stand_in_texts_alone() {
        for order in [json!({"cents": "{{n}}"}), json!({"token": "{{n}}"}), json!({"due": "{{n}}"}), json!({"ratings": ["{{n}}"]})]
        {
            let wrongs = Message::of(&order.into(), &pay()).expect_err("no text");
            assert!(wrongs.len() == 1 && wrongs[0].message.starts_with("values stand in texts alone"), "{wrongs:?}");
        }
    }

    #[test]
    fn methods_are_found_or_proposed() {
        let shop = Descriptors::read(SHOP).expect("a descriptor set");
        let find = |name: &str| shop.method(&name.parse().expect("a method"));
        assert_eq!(find("shop.Checkout/Track").expect("it is there").answers(), crate::grpc::Answers::Stream);
        for (name, says) in [
            ("shop.Chekout/Pay", "there is no service `shop.Chekout` (there are shop.Checkout)"),
            ("shop.Checkout/Buy", "has no method `Buy` (there are shop.Checkout/Pay, shop.Checkout/Track, shop.Checkout/Collect)"),
            ("shop.Checkout/Collect", "takes a stream of messages, and a request sends one"),
        ] {
            let wrong = find(name).map(|_| ()).expect_err("it cannot be called").to_string();
            assert!(wrong.contains(says), "{wrong}");
        }
        for bytes in [&b""[..], b"syntax = \"proto3\";", &SHOP[..SHOP.len() / 2], &[0xff; 100]] {
            assert!(Descriptors::read(bytes).is_err());
        }
        // Without what it imports.
        let alone = prost_reflect::prost_types::FileDescriptorSet::decode(SHOP).expect("a set").file;
        let alone = alone.into_iter().filter(|file| file.name() == "shop.proto").collect();
        assert!(Descriptors::of(alone).err().expect("it is not whole").contains("google/protobuf/"));
    }
}
