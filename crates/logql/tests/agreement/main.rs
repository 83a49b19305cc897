//! Answers do not depend on how entries are stored, cut or read.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod brute;
mod data;
mod queries;
mod run;

use data::Random;
use logql::{Direction, EntryBatch, LogParams, MetricParams};
use proptest::prelude::*;
use run::{WAYS, Way};

const SECOND: i64 = 1_000_000_000;

fn log_params(random: &mut Random) -> LogParams {
    LogParams {
        start: random.below(3) as i64 * SECOND,
        end: (5 + random.below(30) as i64) * SECOND,
        limit: [3, 10, 1000][random.below(3)],
        direction: if random.chance(50) { Direction::Forward } else { Direction::Backward },
        interval: if random.chance(10) { SECOND } else { 0 },
    }
}

fn metric_params(random: &mut Random) -> MetricParams {
    let end = (3 + random.below(25) as i64) * SECOND;
    MetricParams {
        start: end / 2,
        end,
        step: SECOND * (1 + random.below(5) as i64),
        instant: random.chance(30),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn log_queries_agree(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let streams = data::streams(&mut random, true);
        let text: Vec<EntryBatch> = streams.iter().map(data::batch).collect();
        let shredded: Vec<EntryBatch> = text.iter().map(run::shredded).collect();
        let query = queries::log(&mut random, &streams, true);
        let params = log_params(&mut random);
        let want = run::log(&text, &query, params, Way::Whole);
        prop_assert_eq!(&run::log(&text, &query, params, Way::Pieces), &want, "{} {:?}", query, streams);
        for way in WAYS {
            let got = run::log(&shredded, &query, params, way);
            prop_assert_eq!(&got, &want, "{:?} {} {:?}", way, query, streams);
        }
        for (text, shredded) in text.iter().zip(&shredded) {
            prop_assert_eq!(run::passing(shredded, &query), run::passing(text, &query), "{} {:?}", query, streams);
        }
    }

    #[test]
    fn metric_queries_agree(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let streams = data::streams(&mut random, true);
        let text: Vec<EntryBatch> = streams.iter().map(data::batch).collect();
        let shredded: Vec<EntryBatch> = text.iter().map(run::shredded).collect();
        let query = queries::metric(&mut random, &streams, true);
        let params = metric_params(&mut random);
        let want = run::metric(&text, &query, params, Way::Whole);
        let pieces = run::metric(&text, &query, params, Way::Pieces);
        prop_assert!(run::same(&pieces, &want), "pieces {:?} instead of {:?} {} {:?}", pieces, want, query, streams);
        for way in WAYS {
            let got = run::metric(&shredded, &query, params, way);
            prop_assert!(run::same(&got, &want), "{:?} {:?} instead of {:?} {} {:?}", way, got, want, query, streams);
        }
    }

    #[test]
    fn log_queries_agree_with_the_plain_evaluator(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let streams = data::streams(&mut random, false);
        let query = queries::log(&mut random, &streams, false);
        let batches: Vec<EntryBatch> = streams.iter().map(data::batch).map(|b| run::shredded(&b)).collect();
        let params = LogParams { interval: 0, ..log_params(&mut random) };
        let got = brute::flat(&run::log(&batches, &query, params, Way::Screened));
        prop_assert_eq!(got, brute::log(&streams, &query, params), "{} {:?}", query, streams);
    }

    #[test]
    fn metric_queries_agree_with_the_plain_evaluator(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let streams = data::streams(&mut random, false);
        let query = queries::metric(&mut random, &streams, false);
        let batches: Vec<EntryBatch> = streams.iter().map(data::batch).map(|b| run::shredded(&b)).collect();
        let params = metric_params(&mut random);
        let got = run::metric(&batches, &query, params, Way::Screened);
        let want = brute::metric(&streams, &query, params);
        prop_assert!(brute::same(&got, &want), "{:?} instead of {:?} {} {:?}", got, want, query, streams);
    }
}
