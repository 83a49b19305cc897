//! Files that are compressed, and those that have been since they were read.

use super::*;

#[tokio::test]
async fn rotated_and_compressed_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    scene.take_store_away("app.log").await;
    scene.stop().await;
    scene.write("app.log", 100);
    // What was read in part is compressed, what nobody has seen lies in between.
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 100);
    scene.rename("app.log.1", "app.log.2");
    gzip(&scene, "app.log.2", "app.log.2.gz");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 100);
    scene.bring_store_back();
    scene.start();
    scene.expect_all().await;
    // And nothing comes again.
    scene.stop().await;
    scene.start();
    scene.write("app.log", 1);
    scene.end().await;
}

/// Nothing is lost when a file that nobody has read is packed just now, whatever is there of it.
#[tokio::test]
async fn packed_while_it_is_looked_for() {
    for (has_plain, part) in [(true, 0), (true, 20), (true, 600), (false, 600)] {
        let mut scene = Scene::new("app.log", "");
        scene.write("app.log", 10);
        scene.start();
        scene.expect_all().await;
        scene.stop().await;
        scene.write("app.log", 2000);
        scene.rename("app.log", "app.log.1");
        scene.write("app.log", 10);
        let content = std::fs::read(scene.path("app.log.1")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(&content).unwrap();
        let packed = packed.finish().unwrap();
        if !has_plain {
            std::fs::remove_file(scene.path("app.log.1")).unwrap();
        }
        let mut file = scene.open("app.log.1.gz");
        file.write_all(&packed[..part]).unwrap();
        scene.start();
        scene.until_open(&[if has_plain { "app.log.1" } else { "app.log.1.gz" }]).await;
        file.write_all(&packed[part..]).unwrap();
        if has_plain {
            std::fs::remove_file(scene.path("app.log.1")).unwrap();
        }
        scene.end().await;
    }
}

/// What is known under one rotated name is found under the next, though it was packed and its inode is another's.
#[tokio::test]
async fn shifted_and_packed_while_the_agent_is_away() {
    let mut scene = Scene::new("app.log*", "");
    scene.write("app.log", 10);
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    scene.write("app.log.1", 100);
    scene.rename("app.log.1", "app.log.2");
    gzip(&scene, "app.log.2", "app.log.2.gz");
    scene.rename("app.log", "app.log.1");
    scene.write("app.log", 10);
    scene.start();
    scene.end().await;
}

#[tokio::test]
async fn archives() {
    let mut scene = Scene::new("*", ", decompression: {enabled: true, format: gz}");
    for name in ["a", "b"] {
        scene.write(name, 1000);
        gzip(&scene, name, &format!("{name}.gz"));
    }
    scene.write("c", 1000);
    let packed = zstd::encode_all(&std::fs::read(scene.path("c")).unwrap()[..], 3).unwrap();
    std::fs::write(scene.path("d.zst"), packed).unwrap();
    std::fs::remove_file(scene.path("c")).unwrap();
    scene.write("plain.log", 10);
    scene.start();
    scene.expect_all().await;
    scene.stop().await;
    scene.start();
    // A file that is read to its end, then compressed in place.
    gzip(&scene, "plain.log", "plain.log.gz");
    scene.write("e", 10);
    gzip(&scene, "e", "e.gz");
    scene.end().await;
}
