//! Goal: what `ci/image` makes is an OCI image layout and a Docker archive at once, whole and always the same, and nothing that would not run
//! alone becomes one. How: a small static program in the place of the binary, and the archive taken apart again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const NAME: &str = "registry.example:5000/team/squall:1.2";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that says this.
fn program(folder: &Path, says: &str, how: &[&str]) -> PathBuf {
    let source = folder.join("program.c");
    std::fs::write(&source, format!("#include <stdio.h>\nint main(void) {{ puts(\"{says}\"); return 0; }}\n")).unwrap();
    let program = folder.join("program");
    let made = Command::new("cc").args(how).arg("-o").arg(&program).arg(&source).status().expect("Rust needs a C compiler, too");
    assert!(made.success());
    program
}

fn image(binary: &Path, name: &str, out: &Path) -> Output {
    let mut command = Command::new(root().join("ci/image"));
    command.env("SOURCE_DATE_EPOCH", "1000000000").args(["--name", name]).arg("--binary").arg(binary).arg("--out").arg(out);
    command.output().expect("ci/image is a program")
}

/// What a command says, in a folder.
#[track_caller]
fn said(folder: &Path, line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).current_dir(folder).output().expect("bash is there");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The blob that a descriptor means: there, with the digest and size that it says.
#[track_caller]
fn blob(image: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let path = image.join("blobs/sha256").join(digest);
    assert_eq!(path.metadata().unwrap().len(), descriptor["size"].as_u64().unwrap(), "{descriptor}");
    assert!(said(image, &format!("sha256sum {}", path.display())).starts_with(digest), "{descriptor}");
    path
}

#[test]
fn an_image_is_whole_for_containerd_and_for_docker() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let binary = program(at, "squall 0.0.0", &["-static"]);
    let (one, two) = (at.join("one.tar"), at.join("two.tar"));
    for out in [&one, &two] {
        let output = image(&binary, NAME, out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("in the image: squall 0.0.0"), "{output:?}");
    }
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "the same binary makes the same image");

    let there = at.join("image");
    std::fs::create_dir(&there).unwrap();
    said(&there, "tar -xf ../one.tar");
    assert_eq!(read(&there.join("oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    let index = read(&there.join("index.json"));
    let [manifest] = &index["manifests"].as_array().unwrap()[..] else { panic!("{index:#}") };
    assert_eq!(manifest["annotations"]["io.containerd.image.name"], NAME);
    assert_eq!(manifest["annotations"]["org.opencontainers.image.ref.name"], "1.2");
    let manifest = read(&blob(&there, manifest));
    let config_at = blob(&there, &manifest["config"]);
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else { panic!("{manifest:#}") };
    let layer_at = blob(&there, layer);

    // Docker finds the same by its own list.
    let within = |path: &Path| path.strip_prefix(&there).unwrap().display().to_string();
    assert_eq!(
        read(&there.join("manifest.json")),
        json!([{"Config": within(&config_at), "RepoTags": [NAME], "Layers": [within(&layer_at)]}])
    );
    let config = read(&config_at);
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    let diff_id = said(&there, &format!("gzip -dc {} | sha256sum", layer_at.display()));
    assert!(layers.len() == 1 && layers[0] == format!("sha256:{}", &diff_id[..64]), "{config:#} {diff_id}");
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/squall"]));
    // What an agent's container is told to run is found by its name.
    assert_eq!(config["config"]["Env"], json!(["PATH=/usr/local/bin"]));
    let listed = said(&there, &format!("tar -tvzf {}", layer_at.display()));
    let modes: Vec<(&str, &str)> = listed.lines().map(|line| (&line[..10], line.rsplit(' ').next().unwrap())).collect();
    assert_eq!(
        modes,
        [
            ("drwxrwxrwt", "tmp/"),
            ("drwxr-xr-x", "usr/"),
            ("drwxr-xr-x", "usr/local/"),
            ("drwxr-xr-x", "usr/local/bin/"),
            ("-rwxr-xr-x", "usr/local/bin/squall")
        ]
    );
    assert!(listed.lines().all(|line| line.contains(" 0/0 ")), "all of it is root's: {listed}");
}

#[test]
fn what_would_not_run_alone_becomes_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let (at, out) = (folder.path(), folder.path().join("out.tar"));
    let refused = |binary: &Path, name: &str, why: &str| {
        let output = image(binary, name, &out);
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && says.contains(why), "`{why}` is not in: {says}");
        assert!(!out.exists());
    };
    refused(&program(at, "squall 0.0.0", &[]), NAME, "is not static");
    let other = program(at, "hello", &["-static"]);
    refused(&other, NAME, "the image's squall says 'hello'");
    refused(&other, "squall", "write --name squall:");
    refused(&other, "registry.example:5000/squall", "write --name");
}
