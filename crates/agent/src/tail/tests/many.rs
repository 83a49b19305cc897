//! Many files, and many readers of one.

use super::*;

#[tokio::test]
async fn each_job_reads_a_file_for_itself() {
    let mut scene = Scene::new("*.log", "");
    scene.job += &scene.job.replace("job_name: j", "job_name: k").replace("labels: {", "labels: {app: k, ");
    scene.start();
    scene.write("app.log", 10);
    scene.written.extend_from_within(..);
    scene.expect_all().await;
    let with_label =
        scene.store.lines.lock().iter().filter(|(labels, _)| labels.contains("app=\"k\"")).count();
    assert_eq!(with_label, 10);
    scene.end().await;
}

/// Readers without stores: what is read is done.
#[test]
fn more_files_than_may_be_open() {
    const FILES: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(format!("{n}.log"));
    let write = |n: usize| {
        let mut file = File::options().append(true).create(true).open(path(n)).unwrap();
        writeln!(file, "line of {n}").unwrap();
    };
    (0..FILES).for_each(write);
    let labels = [("__path__".to_owned(), folder.path().join("*.log").to_string_lossy().into_owned())];
    let job =
        crate::discovery::FileJob { job: 0, rules: Vec::new(), docker: false, notes: Default::default() };
    let target = job.target(labels.into_iter().collect()).unwrap();
    let filename = folder.path().join("positions.yaml").to_string_lossy().into_owned();
    let positions = crate::config::PositionsConfig { filename, ..Default::default() };
    let positions = crate::positions::Positions::load(&positions).unwrap().of_jobs(["j".to_owned()]);
    let metrics = crate::metrics::AgentMetrics::default();
    let options = crate::tail::PollerOptions {
        poll: (Duration::from_millis(50), Duration::from_millis(50)),
        sync_period: Duration::from_millis(200),
        max_line: 1000,
        from_end: false,
        ignore_older: None,
        readers: 1,
        jobs: Vec::new(),
        metrics: metrics.clone(),
    };
    let pipelines = vec![crate::pipeline::Pipeline::default()];
    let dispatcher = crate::dispatch::Dispatcher::new(pipelines, Vec::new(), metrics.clone());
    let (_commands, received) = std::sync::mpsc::sync_channel(1);
    let poller = crate::tail::Poller::new(options, vec![target], received, Arc::new(positions), dispatcher);
    let stop = service::CancellationToken::new();
    let ends = stop.clone();
    let thread = std::thread::spawn(move || poller.with_max_open(100).run(&ends));
    let lines = |n: usize| {
        let path = path(n).to_string_lossy().into_owned();
        metrics.read_lines.get_or_create(&crate::metrics::PathLabels { path }).get()
    };
    for round in 1..=2 {
        let deadline = Instant::now() + Duration::from_secs(60);
        while (0..FILES).any(|n| lines(n) != round) {
            assert!(Instant::now() < deadline, "{:?}", (0..FILES).map(lines).collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(20));
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open =
            open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(folder.path())));
        let open = open.count();
        assert!(open <= 100, "{open} are open");
        if round == 1 {
            (0..FILES).for_each(write);
        }
    }
    stop.cancel();
    thread.join().unwrap();
}

#[tokio::test]
async fn thousands_of_files() {
    let mut scene = Scene::new("**/*.log", "");
    scene.sync = "2s";
    for folder in 0..10 {
        std::fs::create_dir(scene.path(&format!("{folder}"))).unwrap();
        (0..500).for_each(|file| scene.write(&format!("{folder}/{file}.log"), 1));
    }
    scene.start();
    scene.expect_all().await;
    for file in 0..5000 {
        scene.write(&format!("{}/{}.log", file % 10, file / 10), 1);
    }
    scene.end().await;
}
