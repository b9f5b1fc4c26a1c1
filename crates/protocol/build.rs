//! Generates the gRPC types from proto/, without a protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "grpc")]
    generate()?;
    Ok(())
}

#[cfg(feature = "grpc")]
fn generate() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let services = ["command_service", "run_service", "token_service"]
        .map(|service| format!("runcast/control/v1/{service}.proto"));
    let descriptors = protox::compile(services, [root])?;
    // For server reflection.
    let path = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("runcast.control.v1.bin");
    std::fs::write(path, prost::Message::encode_to_vec(&descriptors))?;
    // Has a password; see src/grpc.rs.
    let config = tonic_prost_build::configure().skip_debug([".runcast.control.v1.Credential"]);
    config.compile_fds(descriptors)?;
    Ok(())
}
