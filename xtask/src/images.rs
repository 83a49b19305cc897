//! Container images `FROM scratch`, made of the workspace's own binaries and the libraries they load.
//!
//! Nothing is pulled, so this works without a network; the multi-stage `Dockerfile` is for everybody else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{Cargo, output, root, status, target_dir};

/// Image name and binary; the names are those of `docker-compose.observability.yml`.
const IMAGES: [(&str, &str); 6] = [
    ("agent", "timberline-agent"),
    ("router", "timberline-router"),
    ("logs", "timberline-logs"),
    ("traces", "timberline-traces"),
    ("timberline", "timberline"),
    ("demo", "timberline-demo"),
];

/// Where containers keep their data, and the user who owns it.
const DATA: &str = "/var/lib/timberline";
const USER: &str = "10001:10001";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take the binaries of this cargo profile.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Tag of the images.
    #[arg(long, default_value = "latest")]
    tag: String,
}

/// Builds the binaries and one image of each.
pub(crate) fn build(options: &Options) -> Result<()> {
    Cargo::new(["build", "--workspace", "--bins", "--profile", &options.profile]).run()?;
    let folder = if options.profile == "dev" { "debug" } else { &options.profile };
    for (image, binary) in IMAGES {
        let context = tempfile::tempdir()?;
        let binary_path = target_dir().join(folder).join(binary);
        assemble(context.path(), image, &binary_path)?;
        let name = format!("timberline/{image}:{}", options.tag);
        output(Command::new("docker").args(["build", "--quiet", "--tag", &name]).arg(context.path()))?;
        eprintln!("built {name}");
    }
    Ok(())
}

/// Lays out the image's root folder and its Dockerfile.
fn assemble(context: &Path, image: &str, binary: &Path) -> Result<()> {
    let files = context.join("root");
    let name = binary.file_name().context("binary has a name")?;
    let inside = files.join("usr/bin").join(name);
    copy(binary, &inside)?;
    // Debug information is of no use in a container, and most of the size.
    status(Command::new("strip").arg(&inside))?;
    for library in libraries(binary)? {
        copy(&library, &files.join(library.strip_prefix("/")?))?;
    }
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if certificates.exists() {
        copy(certificates, &files.join("etc/ssl/certs/ca-certificates.crt"))?;
    }
    let config = root().join(format!("compose/{image}.yaml"));
    if config.exists() {
        copy(&config, &files.join("etc/timberline/config.yaml"))?;
    }
    fs::create_dir_all(context.join("data"))?;
    fs::create_dir_all(files.join("tmp"))?;
    fs::set_permissions(files.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    // The agent reads Docker's socket and log files, which belong to root.
    let user = if image == "agent" { "0:0" } else { USER };
    let mut dockerfile = format!(
        "FROM scratch\nCOPY root /\nCOPY --chown={user} data {DATA}\nUSER {user}\nWORKDIR {DATA}\n\
         ENTRYPOINT [\"/usr/bin/{}\"]\n",
        name.to_string_lossy()
    );
    if config.exists() {
        dockerfile.push_str("CMD [\"--config\", \"/etc/timberline/config.yaml\"]\n");
    }
    fs::write(context.join("Dockerfile"), dockerfile)?;
    Ok(())
}

/// The shared libraries that the binary loads, the loader itself included.
fn libraries(binary: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = output(Command::new("ldd").arg(binary))?;
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Copies what a path points at, making folders on the way.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let real = fs::canonicalize(from).with_context(|| from.display().to_string())?;
    fs::copy(&real, to).with_context(|| format!("{} to {}", real.display(), to.display()))?;
    Ok(())
}
