//! The one writer of a recording: a thread that numbers events and appends them to `recording.jsonl` and `latency.hlog`.
