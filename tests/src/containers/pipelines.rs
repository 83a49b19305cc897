//! Configurations as Promtail's users publish them, each run by an agent of its own, unchanged, over the same few containers on a real engine.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use testkit::port;

use super::engine::{Engine, Images, docker};
use super::last_hour;
use crate::query::{Line, Loki};
use crate::service::until;

/// A configuration, and for queries over what it stores, how many entries they find and how the first begins.
type Case = (&'static str, &'static [(&'static str, usize, &'static str)]);

const CASES: [Case; 7] = [
    (
        "labelmap",
        &[
            (r#"{service="web", project="SHOP", logstream="stdout"}"#, 21, r#"{"level":"info","path":"/p0""#),
            (r#"{service="web", logstream="stderr", container="SHOP-web"}"#, 1, "error of web"),
            (r#"{service="java"}"#, 10, "20"),
        ],
    ),
    (
        "tag",
        &[
            (r#"{container_name="SHOP-web", stream="stdout"}"#, 21, r#"{"level""#),
            (r#"{container_name="SHOP-web", stream="stderr"}"#, 1, "error of web"),
        ],
    ),
    (
        "files",
        &[
            (r#"{container_id="WEB", level="info", filename=""}"#, 21, r#"{"level":"info""#),
            (r#"{container_id="WEB", stream="stderr"}"#, 1, "error of web"),
        ],
    ),
    (
        "filters",
        &[
            (r#"{job="weblog"} | level="info""#, 21, r#"{"level":"info""#),
            (r#"{job="weblog"} | level="""#, 1, "error of web"),
            (r#"{container="SHOP-host"}"#, 1, "error of host"),
            (r#"{container="SHOP-java"}"#, 0, ""),
        ],
    ),
    (
        "match",
        &[
            (r#"{service="web", level="info"}"#, 20, r#"{"level""#),
            (r#"{service="java", parsed="no"}"#, 9, "20"),
            (r#"{service="java"} |= "secret""#, 0, ""),
            (r#"{container="SHOP-host"}"#, 0, ""),
        ],
    ),
    (
        "multiline",
        &[
            (r#"{container="SHOP-java", level="ERROR"} |= "at a.b.C" |= "at d.e.F""#, 3, "20"),
            (r#"{container="SHOP-java", level="INFO"}"#, 1, "20"),
            (r#"{container!="SHOP-java"}"#, 0, ""),
        ],
    ),
    (
        "errors",
        &[
            (
                r#"{container="SHOP-web", network="SHOP@local", port="8080", published=~"[0-9]+"}"#,
                1,
                "error of web",
            ),
            (r#"{container="SHOP-host", network="host@local", port="", published=""}"#, 1, "error of host"),
        ],
    ),
];

/// A service that logs JSON and an error, one that logs stack traces in pieces, one in the host's network.
const WEB: &str = r#"now=$(cat /now); i=0
    while [ $i -lt 20 ]; do echo "{\"level\":\"info\",\"path\":\"/p$i\",\"ts\":\"${now}.5Z\"}"; i=$((i+1)); done
    echo '{"level":"info","path":"/health"}'; echo "error of web" >&2; sleep 1000"#;
const JAVA: &str = r#"now=$(cat /now); day=${now%T*}; time=${now#*T}
    for i in 1 2 3; do echo "$day $time.000 ERROR it broke $i"; echo "  at a.b.C"; sleep 0.3; echo "  at d.e.F"; done
    echo "$day $time.000 INFO the secret"; sleep 1000"#;
const HOST: &str = r#"echo "error of host" >&2; sleep 1000"#;

#[test]
fn configurations_as_they_are_published() -> Result<()> {
    let Some(engine) = Engine::find()? else { return Ok(()) };
    let scene = Scene::new(&engine)?;
    let id = scene.talk()?;
    for (name, queries) in CASES {
        for (query, count, begins) in queries {
            let query = query.replace("SHOP", &scene.prefix).replace("WEB", &id[..12]);
            let query = query.replacen('{', &format!("{{config=\"{name}\", "), 1);
            until(&format!("{count} entries of {query}"), || {
                let lines = scene.lines(&query)?;
                ensure!(lines.len() == *count, "{} entries: {:?}", lines.len(), lines.first());
                ensure!(lines.iter().take(1).all(|line| line.text.starts_with(begins)), "{:?}", lines[0]);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Containers under one prefix, in a network of their own; dropped, nothing of them is left.
struct Scene {
    images: Arc<Images>,
    prefix: String,
    loki: Loki,
}

impl Scene {
    fn new(engine: &Engine) -> Result<Self> {
        let images = Images::build()?;
        let (prefix, port) = (format!("{}-configs", images.prefix), port::free());
        let scene = Self { images, prefix, loki: Loki(format!("http://127.0.0.1:{port}")) };
        docker(["network", "create", &scene.prefix])?;
        let publish = format!("127.0.0.1:{port}:3100");
        scene.run("loki", &["--network-alias", "loki", "--publish", &publish], "logs", &[])?;
        let files = engine.root.join("containers").display().to_string();
        // Where configurations look for them, and where the engine says that they are.
        let mounts = [format!("{files}:{files}:ro"), format!("{files}:/var/lib/docker/containers:ro")];
        for (name, _) in CASES {
            let file =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/containers/configs/{name}.yaml"));
            let file = format!("{}:/etc/promtail/config.yml:ro", file.display());
            let mut options =
                vec!["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", &file];
            let own = files == "/var/lib/docker/containers";
            options.extend(mounts[usize::from(own)..].iter().flat_map(|mount| ["--volume", mount.as_str()]));
            scene.run(name, &options, "agent", &["-config.file=/etc/promtail/config.yml"])?;
        }
        Ok(scene)
    }

    /// Starts those that talk; the id of the one that is called web.
    fn talk(&self) -> Result<String> {
        let now = model::Timestamp::now().to_string();
        let now = now.get(..19).context("a time has a date and seconds")?;
        let project = format!("com.docker.compose.project={}", self.prefix);
        let tag = "tag={{.ImageName}}|{{.Name}}|{{.ImageFullID}}|{{.FullID}}";
        let service = |name: &str| format!("com.docker.compose.service={name}");
        let logging = ["--label", "logging=promtail"];
        let (web, java) = (service("web"), service("java"));
        let web = [
            &["--label", &project, "--label", &web, "--label", "logging_jobname=weblog"][..],
            &logging,
            &["--expose", "9000", "--publish", "127.0.0.1::8080", "--log-opt", tag],
        ]
        .concat();
        let script = |text: &str| text.replace("$(cat /now)", now);
        let id = self.run("web", &web, "talker", &[&script(WEB)])?;
        let java = ["--label", project.as_str(), "--label", &java];
        self.run("java", &java, "talker", &[&script(JAVA)])?;
        self.run("host", &[&logging[..], &["--network", "host"]].concat(), "talker", &[HOST])?;
        Ok(id)
    }

    fn run(&self, name: &str, options: &[&str], image: &str, args: &[&str]) -> Result<String> {
        let (name, image) = (format!("{}-{name}", self.prefix), self.images.name(image));
        let mut words = vec!["run", "--detach", "--name", &name, "--log-driver", "json-file"];
        if !options.contains(&"--network") {
            words.extend(["--network", &self.prefix]);
        }
        words.extend(options);
        words.push(&image);
        words.extend(args);
        Ok(docker(words)?.trim().to_owned())
    }

    fn lines(&self, query: &str) -> Result<Vec<Line>> {
        let (start, end) = last_hour();
        self.loki.lines(query, start, end)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let names = CASES.iter().map(|(name, _)| *name).chain(["loki", "web", "java", "host"]);
        for name in names {
            // Not there if the test failed early.
            let _ = docker(["rm", "--force", "--volumes", &format!("{}-{name}", self.prefix)]);
        }
        if let Err(error) = docker(["network", "rm", &self.prefix]) {
            eprintln!("cannot clean up {}: {error:#}", self.prefix);
        }
    }
}
