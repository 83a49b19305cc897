//! Reading, writing and zones, beyond what the recorded answers cover.

use proptest::prelude::*;

use super::*;

const TIME: Timestamp = Timestamp(1_793_588_645_067_000_000); // 2026-11-02T03:04:05.067Z

fn berlin() -> Zone {
    Zone::named("Europe/Berlin").unwrap()
}

#[test]
fn reads() {
    let check = |layout: &str, text: &str, zone: &Zone, expect: &str| {
        let time = Layout::parse(layout).read(text, zone).unwrap();
        assert_eq!(time.to_string(), expect, "{text} by {layout}");
    };
    let utc = Zone::utc();
    check("2006-01-02 15:04:05", "2026-11-02 03:04:05.067", &utc, "2026-11-02T03:04:05.067Z");
    check("2006-01-02 15:04:05", "2026-11-02 03:04:05", &berlin(), "2026-11-02T02:04:05Z");
    check("2006-01-02 15:04:05", "2026-07-02 03:04:05", &berlin(), "2026-07-02T01:04:05Z");
    // Abbreviations mean something only in a zone that has them.
    check("2006-01-02 15:04 MST", "2026-07-02 03:04 CEST", &berlin(), "2026-07-02T01:04:00Z");
    check("2006-01-02 15:04 MST", "2026-07-02 03:04 CET", &berlin(), "2026-07-02T02:04:00Z");
    check("2006-01-02 15:04 MST", "2026-07-02 03:04 CEST", &utc, "2026-07-02T03:04:00Z");
    check("2006-01-02 15:04 MST", "2026-07-02 03:04 GMT-3", &utc, "2026-07-02T06:04:00Z");
    check("2006-01-02 15:04 -0700 MST", "2026-07-02 03:04 +0200 CEST", &utc, "2026-07-02T01:04:00Z");
    // A local time that the change of clocks skips, and one that it repeats.
    check("2006-01-02 15:04", "2026-03-29 02:30", &berlin(), "2026-03-29T01:30:00Z");
    check("2006-01-02 15:04", "2026-10-25 02:30", &berlin(), "2026-10-25T01:30:00Z");
}

#[test]
fn errors_are_gos() {
    let error =
        |layout: &str, text: &str| Layout::parse(layout).read(text, &Zone::utc()).unwrap_err().to_string();
    assert_eq!(
        error("2006-01-02", "02.11.2026"),
        r#"parsing time "02.11.2026" as "2006-01-02": cannot parse "02.11.2026" as "2006""#
    );
    assert_eq!(error("2006-01-02", "2026-13-01"), r#"parsing time "2026-13-01": month out of range"#);
    assert_eq!(error("2006-01-02", "2026-02-30"), r#"parsing time "2026-02-30": day out of range"#);
    assert_eq!(error("2006", "2026x"), r#"parsing time "2026x": extra text: "x""#);
    assert_eq!(error("15:04", "12:00"), "time 12:00 is outside of the years 1678 to 2261");
}

#[test]
fn years_that_are_not_written() {
    let check = |text: &str, now: &str, expect: &str| {
        let now = Layout::named("RFC3339").unwrap().read(now, &Zone::utc()).unwrap();
        let time = Layout::named("Stamp").unwrap().read_near(text, &Zone::utc(), now).unwrap();
        assert_eq!(time.to_string(), expect, "{text}");
    };
    check("Nov  2 03:04:05", "2026-11-02T04:00:00Z", "2026-11-02T03:04:05Z");
    check("Dec 31 23:59:59", "2027-01-01T00:00:10Z", "2026-12-31T23:59:59Z");
    check("Jan  1 00:00:01", "2026-12-31T23:59:59Z", "2027-01-01T00:00:01Z");
    check("Feb 29 00:00:00", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z");
}

#[test]
fn writes() {
    let check = |layout: &str, zone: &Zone, expect: &str| {
        assert_eq!(Layout::parse(layout).write(TIME, zone), expect, "{layout}");
    };
    check("Mon Jan _2 2006 MST -07:00", &berlin(), "Mon Nov  2 2026 CET +01:00");
    check("15:04 MST Z07:00", &Zone::fixed(-12_600).unwrap(), "23:34 -0330 -03:30");
    check("Janet Money _2006 .0000x .990", &Zone::utc(), "Janet Money _2026 .0670x .990");
    check("no field", &Zone::utc(), "no field");
    assert_eq!(Layout::named("RFC3339Nano").unwrap().write(TIME, &Zone::utc()), "2026-11-02T03:04:05.067Z");
    assert!(Layout::named("rfc3339").is_none());
}

proptest! {
    #[test]
    fn never_panics(layout in "(2006|06|Jan|January|01|1|02|_2|2|__2|002|15|3|03|04|05|5|PM|pm|MST|Z0700|-07:00:00|.000|,999|[ -~]){0,9}", text in "\\PC{0,30}", nanos: i64) {
        let layout = Layout::parse(&layout);
        let _ = layout.read(&text, &berlin());
        let written = layout.write(Timestamp(nanos), &berlin());
        let _ = layout.read_near(&written, &berlin(), TIME);
        for end in 0..=written.len() {
            if let Some(text) = written.get(..end) {
                let _ = layout.read_unix(text, &Zone::utc());
            }
        }
    }

    #[test]
    fn what_is_written_is_read(nanos in -2_000_000_000_000_000_000..i64::MAX) {
        // Before 1893 Berlin's offset had seconds, which RFC 3339 does not write.
        let (layout, time) = (Layout::named("RFC3339Nano").unwrap(), Timestamp(nanos));
        for zone in [Zone::utc(), berlin()] {
            prop_assert_eq!(layout.read(&layout.write(time, &zone), &Zone::utc()), Ok(time));
        }
    }
}
