//! gRPC types, generated from `proto/`.

/// `runcast.control.v1`: commands and runs.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    reason = "generated; the comments are those of proto/"
)]
pub mod control {
    tonic::include_proto!("runcast.control.v1");

    impl std::fmt::Debug for Credential {
        /// Without the password.
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
        }
    }

    /// The encoded `google.protobuf.FileDescriptorSet`, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runcast.control.v1.bin"));
}
