//! Which services there are, and what their methods take: a FileDescriptorSet, as `protoc --include_imports --descriptor_set_out` writes
//! it, or the files that a server tells of itself.

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::Label;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use super::{MethodName, Part, Wrong};

/// The largest set that is read, in bytes.
pub const DESCRIPTORS_MOST: u64 = 64 << 20;

/// The types of a service.
pub struct Descriptors(DescriptorPool);

/// A method that can be called.
pub struct Method(MethodDescriptor);

/// How many messages answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Exactly one, where it ends well.
    One,
    /// Any number.
    Stream,
}

impl Descriptors {
    /// Reads a FileDescriptorSet.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn read(bytes: &[u8]) -> Result<Descriptors, Wrong> {
        let made = "write it with `protoc --include_imports --descriptor_set_out=FILE shop.proto`";
        let set = FileDescriptorSet::decode(bytes).ok().filter(|set| set.file.iter().any(|file| file.name.is_some()));
        let set = set.ok_or_else(|| Wrong::new(Part::Descriptors, "this is no descriptor set").help(made))?;
        Descriptors::of(set.file)
            .map_err(|why| Wrong::new(Part::Descriptors, format!("the descriptor set cannot be used: {why}")).help(made))
    }

    /// Of files with all that they import, in any order.
    ///
    /// # Errors
    /// What is missing or contradicts itself, in words.
    pub fn of(mut files: Vec<FileDescriptorProto>) -> Result<Descriptors, String> {
        for file in &mut files {
            // Where in the source something stands is nothing that is needed here, and the crate that reads it believes it.
            file.source_code_info = None;
            file.syntax.take_if(|syntax| syntax.is_empty());
            if !matches!(file.syntax.as_deref(), None | Some("proto2" | "proto3")) {
                return Err(format!("`{}` is in {}, and only proto2 and proto3 are read", file.name(), file.syntax()));
            }
            if let Some(entry) = file.message_type.iter().find_map(unlike_an_entry) {
                return Err(format!("`{entry}` in `{}` is the entry of a map, and has not a key and a value", file.name()));
            }
        }
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(files).map_err(|error| error.to_string())?;
        Ok(Descriptors(pool))
    }

    /// Looks a method up.
    ///
    /// # Errors
    /// When there is none of that name, or one that takes a stream of messages.
    pub fn method(&self, name: &MethodName) -> Result<Method, Wrong> {
        let Some(service) = self.0.get_service_by_name(&name.service) else {
            let services = self.0.services().map(|service| service.full_name().to_owned());
            return Err(Wrong::new(Part::Method, format!("there is no service `{}`", name.service)).among(&name.service, services));
        };
        let Some(method) = service.methods().find(|method| method.name() == name.method) else {
            let methods = service.methods().map(|method| format!("{}/{}", name.service, method.name()));
            let message = format!("the service `{}` has no method `{}`", name.service, name.method);
            return Err(Wrong::new(Part::Method, message).among(&name.to_string(), methods));
        };
        if method.is_client_streaming() {
            let message = format!("`{name}` takes a stream of messages, and a request sends one");
            return Err(Wrong::new(Part::Method, message).help("name a unary method, or one that streams its answers alone"));
        }
        Ok(Method(method))
    }
}

/// The name of a message, or of one in it, that says that it is an entry of a map and is not made like one: nobody else looks.
fn unlike_an_entry(message: &DescriptorProto) -> Option<&str> {
    let within = message.nested_type.iter().find_map(unlike_an_entry);
    let is_entry = message.options.as_ref().is_some_and(|options| options.map_entry());
    let fields: Vec<(i32, Label)> = message.field.iter().map(|field| (field.number(), field.label())).collect();
    let broken = is_entry && fields != [(1, Label::Optional), (2, Label::Optional)];
    within.or(broken.then(|| message.name()))
}

impl Method {
    /// What it is asked with.
    pub(super) fn input(&self) -> MessageDescriptor {
        self.0.input()
    }

    pub fn answers(&self) -> Answers {
        if self.0.is_server_streaming() { Answers::Stream } else { Answers::One }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost_types::{FieldDescriptorProto, MessageOptions};

    use super::*;

    fn file(name: &str, syntax: Option<&str>) -> FileDescriptorProto {
        FileDescriptorProto { name: Some(name.into()), syntax: syntax.map(str::to_owned), ..Default::default() }
    }

    /// The crate that reads them believes all of this, and panics.
    #[test]
    fn types_that_cannot_be_are_refused() {
        for syntax in [None, Some(""), Some("proto2"), Some("proto3")] {
            assert!(Descriptors::of(vec![file("a.proto", syntax)]).is_ok(), "{syntax:?}");
        }
        let why = |files| Descriptors::of(files).err().expect("it cannot be used");
        assert_eq!(why(vec![file("a.proto", Some("editions"))]), "`a.proto` is in editions, and only proto2 and proto3 are read");
        let key = FieldDescriptorProto { name: Some("key".into()), number: Some(1), ..Default::default() };
        let options = MessageOptions { map_entry: Some(true), ..Default::default() };
        let entry = DescriptorProto { name: Some("E".into()), field: vec![key], options: Some(options), ..Default::default() };
        let outer = DescriptorProto { name: Some("M".into()), nested_type: vec![entry], ..Default::default() };
        let with_entry = FileDescriptorProto { message_type: vec![outer], ..file("a.proto", None) };
        assert_eq!(why(vec![with_entry]), "`E` in `a.proto` is the entry of a map, and has not a key and a value");
        let importing = |name: &str, other: &str| FileDescriptorProto { dependency: vec![other.into()], ..file(name, None) };
        assert!(why(vec![importing("a.proto", "b.proto")]).contains("b.proto"));
        // In a circle, they are what they are.
        let _ = Descriptors::of(vec![importing("a.proto", "b.proto"), importing("b.proto", "a.proto")]);
        let _ = Descriptors::of(vec![importing("a.proto", "a.proto")]);
    }
}
