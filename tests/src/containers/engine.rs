//! A Docker engine, and images made of the workspace's binaries for the tests that run containers on it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, bail, ensure};
use testkit::recorded::workspace;

/// What there is to run containers with.
pub(super) struct Engine {
    /// Where it keeps its data.
    pub(super) root: PathBuf,
    /// The compose command's words.
    pub(super) compose: &'static [&'static str],
}

impl Engine {
    /// The one that answers. Without one there is nothing to test, which only passes where nobody relies on the tests.
    pub(super) fn find() -> Result<Option<Engine>> {
        let found = Self::look();
        if found.is_none() {
            ensure!(
                !in_ci(),
                "no Docker engine answers, or there is no docker-compose: images are not tested"
            );
            eprintln!("skipped: no Docker engine answers, or there is no docker-compose");
        }
        Ok(found)
    }

    fn look() -> Option<Engine> {
        let root = docker(["info", "--format", "{{.DockerRootDir}}"]).ok()?;
        const COMPOSE: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        let answers = |words: &&&[&str]| run(Command::new(words[0]).args(&words[1..]).arg("version")).is_ok();
        let compose = COMPOSE.iter().find(answers).copied()?;
        Some(Engine { root: PathBuf::from(root.trim()), compose })
    }
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Images of the binaries, and one of a program that talks. Dropped, they are removed.
pub(super) struct Images {
    /// The tag of those of the binaries.
    pub(super) tag: String,
    /// Names everything that a test makes.
    pub(super) prefix: String,
    /// Whether they were made here.
    are_own: bool,
}

impl Images {
    /// Builds them out of binaries that are brought up to date; tests that run at the same time share them.
    ///
    /// With `TIMBERLINE_TAG` set, images of that tag are taken as they are.
    pub(super) fn build() -> Result<Arc<Images>> {
        static BUILT: Mutex<Weak<Images>> = Mutex::new(Weak::new());
        // Held while building: the other test would wait for cargo anyway.
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(images) = built.upgrade() {
            return Ok(images);
        }
        let prefix = format!("timberline-test-{}", std::process::id());
        let tag = std::env::var("TIMBERLINE_TAG").ok();
        let are_own = tag.is_none();
        let images = Arc::new(Images { tag: tag.unwrap_or_else(|| prefix.clone()), prefix, are_own });
        if are_own {
            images.build_binaries()?;
        }
        images.build_talker()?;
        *built = Arc::downgrade(&images);
        Ok(images)
    }

    fn build_binaries(&self) -> Result<()> {
        // Tests run from `<target>/<profile>/deps`.
        let test = std::env::current_exe()?;
        let target = test.ancestors().nth(3).context("the test runs outside of a target folder")?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(workspace()).env("CARGO_TARGET_DIR", target);
        cargo.args(["run", "--quiet", "--package", "xtask", "--", "images", "--profile", "dev"]);
        run(cargo.args(["--tag", &self.tag])).map(drop)
    }

    /// An image with a shell and `sleep`, out of this machine's.
    fn build_talker(&self) -> Result<()> {
        let context = tempfile::tempdir()?;
        for program in ["/bin/sh", "/bin/sleep"] {
            let listed = run(Command::new("ldd").arg(program))?;
            let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
            for file in libraries.chain([program]) {
                let inside = context.path().join("root").join(file.trim_start_matches('/'));
                std::fs::create_dir_all(inside.parent().context("a file has a folder")?)?;
                std::fs::copy(file, inside).with_context(|| file.to_owned())?;
            }
        }
        let dockerfile = "FROM scratch\nCOPY root /\nENTRYPOINT [\"/bin/sh\", \"-c\"]\n";
        std::fs::write(context.path().join("Dockerfile"), dockerfile)?;
        run(Command::new("docker")
            .args(["build", "--quiet", "--tag", &self.name("talker")])
            .arg(context.path()))?;
        Ok(())
    }

    /// The whole name of an image.
    pub(super) fn name(&self, image: &str) -> String {
        format!("timberline/{image}:{}", self.tag)
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        const ALL: [&str; 7] = ["talker", "agent", "router", "logs", "traces", "timberline", "demo"];
        let images = if self.are_own { &ALL[..] } else { &ALL[..1] };
        let names: Vec<String> = images.iter().map(|image| self.name(image)).collect();
        if let Err(error) = docker(["rmi", "--force"].into_iter().chain(names.iter().map(String::as_str))) {
            eprintln!("cannot remove images {}: {error:#}", self.tag);
        }
    }
}

/// Runs `docker` and gives back what it printed.
pub(super) fn docker<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<String> {
    run(Command::new("docker").args(args))
}

/// Runs a program to its end and gives back what it printed.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
