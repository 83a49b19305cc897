//! What may stand in one scrape config, and why the rest may not.

use service::config::Problems;

use crate::config::ScrapeConfig;

/// Blocks of Promtail's that are refused, each with what to do instead.
const REFUSED: [(&str, &str); 19] = [
    ("kafka", PUSH),
    ("gcplog", PUSH),
    ("cloudflare", PUSH),
    ("azure_event_hubs", PUSH),
    (
        "heroku_drain",
        "point the drain at a program that pushes, and let it push to a loki_push_api target here",
    ),
    (
        "windows_events",
        "this agent runs on Linux: send events with a forwarder to a syslog or loki_push_api target here",
    ),
    ("dns_sd_configs", FILES),
    ("consul_sd_configs", FILES),
    ("consulagent_sd_configs", FILES),
    ("ec2_sd_configs", FILES),
    ("gce_sd_configs", FILES),
    ("azure_sd_configs", FILES),
    ("openstack_sd_configs", FILES),
    ("dockerswarm_sd_configs", "use docker_sd_configs on each node"),
    ("triton_sd_configs", FILES),
    ("marathon_sd_configs", FILES),
    ("nerve_sd_configs", FILES),
    ("serverset_sd_configs", FILES),
    ("uyuni_sd_configs", FILES),
];

const PUSH: &str = "keep the program that reads it, and let it push to a loki_push_api target here";
const FILES: &str =
    "files are on this host whoever tells of them: write the targets into a file for file_sd_configs";

/// Checks one job; `path` is where it stands.
pub(crate) fn check(job: &ScrapeConfig, path: &str, problems: &mut Problems) {
    if !job.refused.is_null() {
        let block = job.refused.key().to_owned();
        let remedy = REFUSED.iter().find(|(name, _)| *name == block).map_or(PUSH, |(_, remedy)| *remedy);
        problems.add(job.refused.path(), format!("job '{}': {block} is not built: {remedy}", job.job_name));
    }
    if let [first, second, ..] = kinds(job)[..] {
        problems.add(path, format!("{first} and {second} in one job: make two jobs of it"));
    }
    for (i, sd) in job.file_sd_configs.iter().enumerate() {
        sd.check(&format!("{path}.file_sd_configs[{i}]"), problems);
    }
    for (i, sd) in job.kubernetes_sd_configs.iter().enumerate() {
        sd.check(&format!("{path}.kubernetes_sd_configs[{i}]"), problems);
    }
    for (i, sd) in job.docker_sd_configs.iter().enumerate() {
        sd.check(&format!("{path}.docker_sd_configs[{i}]"), problems);
    }
    if let Some(syslog) = &job.syslog {
        syslog.check(&format!("{path}.syslog"), problems);
    }
    if let Some(push) = &job.loki_push_api {
        push.check(&format!("{path}.loki_push_api"), problems);
    }
    if let Some(gelf) = &job.gelf {
        gelf.check(&format!("{path}.gelf"), problems);
    }
    if let Some(journal) = &job.journal {
        journal.check(&format!("{path}.journal"), problems);
    }
}

/// The kinds of target that a job has, those of files as one.
pub(crate) fn kinds(job: &ScrapeConfig) -> Vec<&'static str> {
    let files = [
        (!job.static_configs.is_empty(), "static_configs"),
        (!job.file_sd_configs.is_empty(), "file_sd_configs"),
        (!job.kubernetes_sd_configs.is_empty(), "kubernetes_sd_configs"),
    ];
    let others = [
        (job.journal.is_some(), "journal"),
        (job.syslog.is_some(), "syslog"),
        (job.loki_push_api.is_some(), "loki_push_api"),
        (job.gelf.is_some(), "gelf"),
        (!job.docker_sd_configs.is_empty(), "docker_sd_configs"),
    ];
    let present = |(is, name): (bool, &'static str)| is.then_some(name);
    files.into_iter().find_map(present).into_iter().chain(others.into_iter().filter_map(present)).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn check(job: &str, want: &str) {
        let yaml = format!(
            "clients: [{{url: 'http://h/loki/api/v1/push'}}]\nscrape_configs:\n  - job_name: j\n    {}\n",
            job.replace('\n', "\n    ")
        );
        match service::config::from_text::<Config>(&yaml) {
            Ok(loaded) if want.is_empty() => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
            Ok(_) => panic!("accepted: {yaml}"),
            Err(problems) if want.is_empty() => panic!("{problems}"),
            Err(problems) => assert!(problems.to_string().contains(want), "{problems}"),
        }
    }

    #[test]
    fn targets_that_are_refused_name_job_and_remedy() {
        for (block, remedy) in super::REFUSED {
            let value = if block.ends_with("_configs") { "[{a: b}]" } else { "{a: b}" };
            let want = format!("scrape_configs[0].{block}: job 'j': {block} is not built: {remedy}");
            check(&format!("{block}: {value}"), &want);
        }
    }

    #[test]
    fn one_kind_of_target_a_job() {
        check("static_configs: [{labels: {__path__: /l}}]\nfile_sd_configs: [{files: [/t.json]}]", "");
        check(
            "static_configs: [{labels: {__path__: /l}}]\ngelf: {}",
            "scrape_configs[0]: static_configs and gelf in one job",
        );
        check("journal: {}\nsyslog: {listen_address: ':1514'}", "journal and syslog in one job");
        check("jornal: {}", "scrape_configs[0].jornal");
    }

    /// Every job in the documentation is accepted without a remark.
    #[test]
    fn documented_jobs_are_accepted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/agent-targets.md");
        let text = std::fs::read_to_string(path).unwrap();
        let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        let mut kinds = std::collections::BTreeSet::new();
        for block in blocks {
            let yaml = format!("clients: [{{url: 'http://h/loki/api/v1/push'}}]\n{block}");
            let loaded =
                service::config::from_text::<Config>(&yaml).unwrap_or_else(|p| panic!("{p}\n{block}"));
            assert!(loaded.warnings.is_empty() && loaded.unneeded.is_empty(), "{loaded:?}");
            kinds.extend(loaded.config.scrape_configs.iter().flat_map(super::kinds));
        }
        let documented = [
            "docker_sd_configs",
            "file_sd_configs",
            "gelf",
            "journal",
            "kubernetes_sd_configs",
            "loki_push_api",
            "static_configs",
            "syslog",
        ];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), documented);
    }
}
