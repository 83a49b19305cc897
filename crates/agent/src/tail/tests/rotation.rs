//! Files that are renamed, removed, made again, or reached by links.

use super::*;

#[tokio::test]
async fn renamed_twice_while_the_store_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    let mut old = scene.open("app.log");
    scene.rename("app.log", "app.log.1");
    scene.write_to(&mut old, 20);
    scene.write("app.log", 50);
    // The clock of whoever rotates may be far off.
    scene.open("app.log").set_modified(SystemTime::UNIX_EPOCH).unwrap();
    scene.until_open(&["app.log"]).await;
    scene.rename("app.log.1", "app.log.2");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 50);
    scene.write_to(&mut old, 20);
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn rotated_faster_than_anybody_looks() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    for generation in (1..=9).rev() {
        scene.rename("app.log", &format!("app.log.{generation}"));
        scene.write("app.log", 10);
    }
    scene.end().await;
}

#[tokio::test]
async fn rotated_names_that_the_glob_matches_too() {
    let mut scene = Scene::new("app.log*", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    for _ in 0..3 {
        for generation in (1..3).rev() {
            let (from, to) = (format!("app.log.{generation}"), format!("app.log.{}", generation + 1));
            if scene.path(&from).exists() {
                scene.rename(&from, &to);
            }
        }
        scene.rename("app.log", "app.log.1");
        scene.write("app.log", 100);
        scene.expect_all().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn moved_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    scene.stop().await;
    scene.write("app.log", 5);
    scene.rename("app.log", "kept-under-another-name");
    scene.bring_store_back();
    scene.start();
    scene.end().await;
}

#[tokio::test]
async fn deleted_unread_and_made_again() {
    let mut scene = Scene::new("*.log", "");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    for _ in 0..3 {
        scene.write("app.log", 1000);
        scene.until_open(&["app.log"]).await;
        std::fs::remove_file(scene.path("app.log")).unwrap();
    }
    scene.write("app.log", 10);
    scene.bring_store_back();
    scene.end().await;
}

#[tokio::test]
async fn links_as_kubernetes_makes_them() {
    let mut scene = Scene::new("containers/*.log", "");
    for folder in ["containers", "pods", "docker"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.write("docker/1.log", 10);
    let link = |from: &str, to: &str, scene: &Scene| {
        let _ = std::fs::remove_file(scene.path(to));
        std::os::unix::fs::symlink(scene.path(from), scene.path(to)).unwrap();
    };
    link("docker/1.log", "pods/0.log", &scene);
    link("pods/0.log", "containers/a.log", &scene);
    scene.start();
    scene.expect_all().await;
    scene.write("docker/1.log", 10);
    scene.expect_all().await;
    // The engine rotates; then a link in the middle leads to a new container.
    scene.rename("docker/1.log", "docker/1.log.1");
    scene.write("docker/1.log", 10);
    scene.expect_all().await;
    scene.write("docker/2.log", 10);
    link("docker/2.log", "pods/0.log", &scene);
    scene.end().await;
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_after_a_restart() {
    let mut scene = Scene::new("links/*.log", "");
    for folder in ["links", "one", "two"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    scene.write("one/0.log", 10);
    std::os::unix::fs::symlink(scene.path("one/0.log"), scene.path("links/a.log")).unwrap();
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    // Rotated twice and packed where it lies, and the link leads elsewhere.
    scene.write("one/0.log", 100);
    scene.rename("one/0.log", "one/0.log.20240102-030405");
    gzip(&scene, "one/0.log.20240102-030405", "one/0.log.20240102-030405.gz");
    scene.write("one/0.log", 10);
    scene.write("two/0.log", 10);
    std::fs::remove_file(scene.path("links/a.log")).unwrap();
    std::os::unix::fs::symlink(scene.path("two/0.log"), scene.path("links/a.log")).unwrap();
    scene.start();
    scene.end().await;
}
