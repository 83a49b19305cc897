//! Files that are truncated, copied before or not.

use super::*;

async fn copytruncate(glob: &str, compress: bool) {
    let mut scene = Scene::new(glob, "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    // The queue is small against what is written now, so part of it is unread when the file is truncated.
    scene.write("app.log", 100_000);
    std::fs::copy(scene.path("app.log"), scene.path("app.log.1")).unwrap();
    File::options().write(true).open(scene.path("app.log")).unwrap().set_len(0).unwrap();
    if compress {
        gzip(&scene, "app.log.1", "app.log.1.gz");
    }
    // It grows beyond what was read of it before.
    scene.write("app.log", 110_000);
    scene.until_open(&["app.log.1", "app.log.1 (deleted)", "app.log.1.gz"]).await;
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn copied_and_truncated() {
    copytruncate("app.log", false).await;
}

#[tokio::test]
async fn copied_and_truncated_where_the_glob_matches_the_copy() {
    copytruncate("app.log*", false).await;
}

#[tokio::test]
async fn copied_and_truncated_and_compressed() {
    copytruncate("app.log", true).await;
}

#[tokio::test]
async fn copied_and_truncated_twice_while_the_store_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    // More than the queue takes.
    for (copy, lines) in [("app.log.2", 100_000), ("app.log.1", 1000)] {
        scene.write("app.log", lines);
        let size = scene.path("app.log").metadata().unwrap().len();
        // The generation before it was larger: the agent must have seen this one before it is gone.
        scene.until_bytes("promtail_file_bytes_total", "app.log", |seen| seen == size).await;
        std::fs::copy(scene.path("app.log"), scene.path(copy)).unwrap();
        File::options().write(true).open(scene.path("app.log")).unwrap().set_len(0).unwrap();
        scene.until_open(&[copy]).await;
    }
    scene.write("app.log", 10);
    scene.bring_store_back();
    scene.end().await;
}
