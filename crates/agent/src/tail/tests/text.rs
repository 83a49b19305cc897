//! What lines are made of.

use super::*;

#[tokio::test]
async fn lines_that_are_appended_in_pieces() {
    let mut scene = Scene::new("*.log", "");
    scene.write("app.log", 100);
    scene.start();
    scene.expect_all().await;
    let (first, second) = (scene.line(), scene.line());
    let mut file = scene.open("app.log");
    let whole = format!("{first}\n{second}\n");
    for piece in whole.as_bytes().chunks(25) {
        file.write_all(piece).unwrap();
        let size = file.metadata().unwrap().len();
        scene.until_bytes("promtail_read_bytes_total", "app.log", |read| read >= size).await;
    }
    scene.expect_all().await;
    // A new file, a new folder's none, and a last line without end.
    scene.write("other.log", 10);
    let last = scene.line();
    file.write_all(last.as_bytes()).unwrap();
    scene.end().await;
}

#[tokio::test]
async fn long_lines_and_bytes_that_are_no_text() {
    let mut scene = Scene::new("*.log", "");
    scene.start();
    let mut file = scene.open("app.log");
    for n in 0..5 {
        let line = scene.say(format!("{n} {}", "x".repeat((1 << 20) - 10)));
        writeln!(file, "{line}").unwrap();
    }
    file.write_all(b"a\xff\xfeb\r\n\n").unwrap();
    scene.say("a\u{fffd}\u{fffd}b\r".to_owned());
    scene.say(String::new());
    scene.write("app.log", 1);
    scene.end().await;
}

#[tokio::test]
async fn other_encodings() {
    let mut scene = Scene::new("*.log", ", encoding: utf-16");
    let mut file = scene.open("app.log");
    let mut put = |text: &str, mark: bool| {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        file.write_all(&units.flat_map(u16::to_be_bytes).collect::<Vec<u8>>()).unwrap();
    };
    put(&format!("{}\n", scene.say("héllo \u{10a}\u{a0a}".to_owned())), true);
    scene.start();
    scene.expect_all().await;
    put(&format!("{}\n", scene.say("wörld".to_owned())), false);
    scene.end().await;
}
