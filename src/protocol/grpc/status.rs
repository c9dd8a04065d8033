//! How a call ended, in the words of its server: the status codes of gRPC.

/// In the order of their numbers. What a server makes up counts as `Unknown`, as every client takes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Status {
    /// With their names.
    const ALL: [(Status, &str); 17] = [
        (Status::Ok, "OK"),
        (Status::Cancelled, "CANCELLED"),
        (Status::Unknown, "UNKNOWN"),
        (Status::InvalidArgument, "INVALID_ARGUMENT"),
        (Status::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Status::NotFound, "NOT_FOUND"),
        (Status::AlreadyExists, "ALREADY_EXISTS"),
        (Status::PermissionDenied, "PERMISSION_DENIED"),
        (Status::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Status::FailedPrecondition, "FAILED_PRECONDITION"),
        (Status::Aborted, "ABORTED"),
        (Status::OutOfRange, "OUT_OF_RANGE"),
        (Status::Unimplemented, "UNIMPLEMENTED"),
        (Status::Internal, "INTERNAL"),
        (Status::Unavailable, "UNAVAILABLE"),
        (Status::DataLoss, "DATA_LOSS"),
        (Status::Unauthenticated, "UNAUTHENTICATED"),
    ];

    /// The value of `grpc-status`.
    pub(super) fn read(value: &[u8]) -> Status {
        let number = str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
        number.and_then(|number| Status::ALL.get(number)).map_or(Status::Unknown, |(status, _)| *status)
    }

    /// Its name.
    pub(in crate::protocol) fn name(self) -> &'static str {
        Status::ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_the_numbers_and_names_of_grpc() {
        for (number, (status, name)) in Status::ALL.into_iter().enumerate() {
            assert_eq!((status as usize, status.name(), Status::read(number.to_string().as_bytes())), (number, name, status));
        }
        for strange in ["", "17", "-1", "ok", "99999999999999999999", "\u{fc}"] {
            assert_eq!(Status::read(strange.as_bytes()), Status::Unknown, "{strange}");
        }
        assert_eq!(Status::read(b"\xff"), Status::Unknown);
    }
}
