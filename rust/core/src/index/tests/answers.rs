use super::*;

fn plain(number: i64) -> Vec<f32> {
    vec![number as f32, 1.0, -(number as f32) * 0.5]
}

/// The rows that a filter admits, said again in the plainest way.
fn admitted(filter: &Resolved, rows: std::ops::Range<i64>) -> Vec<RowKey> {
    rows.map(entry)
        .filter(|row| {
            let total = (row.episode.0 % 10) as f64;
            filter.task_types.as_ref().is_none_or(|list| list.contains(&row.task_type))
                && filter.episodes.as_ref().is_none_or(|list| list.contains(&row.episode))
                && filter.patterns.as_ref().is_none_or(|list| list.contains(&row.pattern))
                && filter.agent_type.is_none_or(|agent| agent.is_some() && agent == row.agent_type)
                && filter.min_return.is_none_or(|least| row.ret.is_some_and(|ret| ret >= least))
                && filter.min_reward.is_none_or(|least| row.reward >= least)
                && filter.min_episode_reward.is_none_or(|least| total >= least)
                && filter.after_timestamp.is_none_or(|first| row.timestamp >= first)
                && filter.before_timestamp.is_none_or(|end| row.timestamp < end)
                && filter.success.is_none_or(|wanted| row.succeeded == wanted)
        })
        .map(|row| row.key)
        .collect()
}

fn filters() -> Vec<Resolved> {
    let any = Resolved::default;
    vec![
        any(),
        Resolved { task_types: Some(vec![LabelId(1)]), ..any() },
        Resolved { task_types: Some(vec![LabelId(2), LabelId(0)]), ..any() },
        Resolved { task_types: Some(vec![]), ..any() },
        Resolved { episodes: Some(vec![EpisodeId(120), EpisodeId(103), EpisodeId(7)]), ..any() },
        Resolved { patterns: Some(vec![PatternId(4), PatternId(2)]), ..any() },
        Resolved { agent_type: Some(Some(LabelId(52))), ..any() },
        Resolved { agent_type: Some(None), ..any() },
        Resolved { min_return: Some(0.2), ..any() },
        Resolved { min_reward: Some(-0.3), success: Some(false), ..any() },
        Resolved { min_episode_reward: Some(4.0), ..any() },
        Resolved { after_timestamp: Some(850), before_timestamp: Some(980), ..any() },
        Resolved { success: Some(true), patterns: Some(vec![PatternId(1)]), ..any() },
    ]
}

#[test]
fn every_filter_admits_what_its_words_say() {
    let (index, _) = filled(200, plain);
    for filter in filters() {
        let expected = admitted(&filter, 0..200);
        assert_eq!(index.keys_matching(&filter), expected, "{filter:?}");
        assert_eq!(index.count_matching(&filter), expected.len(), "{filter:?}");
        let mut episodes: Vec<EpisodeId> =
            expected.iter().map(|&key| index.entry(key).unwrap().episode).collect();
        episodes.dedup();
        assert_eq!(index.episodes_matching(&filter), episodes, "{filter:?}");
        for hash in 0..8 {
            let mut same = expected.clone();
            same.retain(|&key| index.entry(key).unwrap().state_hash == hash * 64);
            assert_eq!(index.by_state_hash(hash * 64, &filter), same, "{filter:?}");
        }
    }
}

#[test]
fn removed_rows_are_gone_from_every_answer_before_and_after_a_compaction() {
    let (mut index, mut shelf) = filled(200, plain);
    let all = Resolved::default();
    let mut left = index.keys_matching(&all);
    for round in 0..30 {
        let gone: Vec<RowKey> = left.iter().copied().skip(round % 3).step_by(17).collect();
        left.retain(|key| !gone.contains(key));
        index.remove(&gone);
        index.remove(&[RowKey(1), RowKey(-5)]);
        shelf.states.retain(|key, _| !gone.contains(key));
        assert_eq!(index.len(), left.len());
        assert_eq!(index.keys_matching(&all), left);
        assert!(gone.iter().all(|&key| index.entry(key).is_none()));
        for &key in &left {
            assert_eq!(index.entry(key), Some(entry(key.0 / 3)));
            assert!(index.by_state_hash(entry(key.0 / 3).state_hash, &all).contains(&key));
        }
        let totals = Resolved { min_episode_reward: Some(4.0), ..all.clone() };
        let mut expected = admitted(&totals, 0..200);
        expected.retain(|key| left.contains(key));
        assert_eq!(index.keys_matching(&totals), expected);
        let mut scratch = Scratch::default();
        let query = [5.0, 2.0, 1.0];
        let question = exactly(&query, Metric::Euclidean, 1000, &all);
        let hits = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
        assert_eq!(hits.len(), left.len());
    }
}

#[test]
fn distances_are_those_of_the_three_metrics_and_ties_go_to_the_smaller_key() {
    let states = [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [-4.0, 3.0], [3.0, 4.0]];
    let (index, mut shelf) = filled(5, |number| states[number as usize].to_vec());
    let mut scratch = Scratch::default();
    let mut ask = |metric| -> Vec<(i64, f64, f64)> {
        let all = Resolved::default();
        index
            .search(&exactly(&[3.0, 4.0], metric, 4, &all), &mut shelf, &mut scratch, &GO_ON)
            .unwrap()
            .iter()
            .map(|hit| (hit.key.0 / 3, hit.distance, hit.similarity))
            .collect()
    };
    let cosine = vec![(0, 0.0, 1.0), (2, 0.0, 1.0), (4, 0.0, 1.0), (1, 1.0, 0.0)];
    assert_eq!(ask(Metric::Cosine), cosine);
    let euclidean = vec![(0, 0.0, 1.0), (4, 0.0, 1.0), (1, 5.0, 1.0 / 6.0), (2, 5.0, 1.0 / 6.0)];
    assert_eq!(ask(Metric::Euclidean), euclidean);
    let dot = vec![(2, -50.0, 50.0), (0, -25.0, 25.0), (4, -25.0, 25.0), (1, 0.0, 0.0)];
    assert_eq!(ask(Metric::Dot), dot);
}

#[test]
fn a_search_ends_when_it_is_told_to_or_when_a_row_is_gone() {
    let (index, mut shelf) = filled(20, plain);
    let mut scratch = Scratch::default();
    let all = Resolved::default();
    let query = [1.0, 0.0, 0.0];
    let mut ask = |shelf: &mut Shelf, stop: &AtomicBool| {
        index.search(&exactly(&query, Metric::Cosine, 3, &all), shelf, &mut scratch, stop)
    };
    assert!(matches!(ask(&mut shelf, &AtomicBool::new(true)), Err(Error::Closed(_))));
    shelf.states.clear();
    assert!(matches!(ask(&mut shelf, &GO_ON), Err(Error::NotFound { .. })));
}
