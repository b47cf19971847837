//! What is kept: places, priorities, the greatest so far.

use super::*;

fn priorities(replay: &PrioritizedReplay) -> Vec<f64> {
    for (item, priority) in replay.priorities.iter().enumerate() {
        assert_eq!(replay.tree.mass(item), replay.mass_of(*priority));
    }
    replay.priorities.clone()
}

#[test]
fn a_full_replay_overwrites_its_oldest() {
    let mut made = replay(|s| s.capacity = 3);
    assert_eq!(made.add(2, Some(&[0.1, 0.2])).unwrap(), [0, 1]);
    assert_eq!(made.add(2, Some(&[0.3, 0.4])).unwrap(), [2, 0]);
    assert_eq!(priorities(&made), [0.4, 0.2, 0.3]);
    assert_eq!(made.add(1, Some(&[0.5])).unwrap(), [1]);
    assert_eq!((priorities(&made), made.len()), (vec![0.4, 0.5, 0.3], 3));
}

#[test]
fn more_items_than_there_is_room_for_leave_the_last_ones() {
    let mut made = replay(|s| s.capacity = 3);
    assert_eq!(made.add(5, Some(&[1.0, 2.0, 3.0, 4.0, 5.0])).unwrap(), [0, 1, 2, 0, 1]);
    assert_eq!(priorities(&made), [4.0, 5.0, 3.0]);
    assert_eq!(made.add(7, None).unwrap(), [2, 0, 1, 2, 0, 1, 2]);
    assert_eq!(priorities(&made), [5.0; 3]);
}

#[test]
fn new_items_get_the_greatest_priority_so_far_and_the_first_one_is_1() {
    let mut made = replay(|_| ());
    made.add(2, None).unwrap();
    made.update(&[0], &[-3.0]).unwrap();
    made.add(1, None).unwrap();
    assert_eq!(priorities(&made), [3.0, 1.0, 3.0]);
    made.update(&[0, 2], &[0.1, 0.1]).unwrap();
    made.add(1, None).unwrap();
    assert_eq!(
        priorities(&made)[3],
        3.0,
        "the greatest that ever was, though it is there no longer"
    );
    let mut made = holding(&[0.0, 0.25], |_| ());
    made.add(1, None).unwrap();
    assert_eq!(priorities(&made), [0.0, 0.25, 0.25]);
}

#[test]
fn the_last_of_a_repeated_index_counts() {
    let mut made = holding(&[1.0; 20], |_| ());
    made.update(&[3, 17, 3, 4, 3], &[5.0, 6.0, 7.0, 8.0, -0.5]).unwrap();
    let mut expected = vec![1.0; 20];
    (expected[3], expected[4], expected[17]) = (0.5, 8.0, 6.0);
    assert_eq!(priorities(&made), expected);
    let total: f64 = expected.iter().map(|p| made.mass_of(*p)).sum();
    assert!((made.tree.total() - total).abs() < 1e-12);
}

#[test]
fn an_item_without_error_is_drawn_all_the_same() {
    let mut made = holding(&[0.0, 1.0], |_| ());
    let mut draws = Draws::default();
    let drawn = (0..200).any(|_| {
        made.sample(1, None, true, &mut draws).unwrap();
        draws.indices == [0]
    });
    assert!(drawn, "an item starves");
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let mut made = holding(&[1.0, 2.0], |_| ());
    let before = made.to_bytes();
    refused(made.add(0, None), "n");
    refused(made.add(usize::MAX, None), "n");
    refused(made.add(3, Some(&[1.0, 2.0])), "priorities");
    for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
        refused(made.add(2, Some(&[1.0, bad])), "priorities[1]");
    }
    for index in [2, -1, i64::MAX] {
        refused(made.update(&[0, index], &[9.0, 9.0]), "indices[1]");
    }
    refused(replay(|_| ()).update(&[0], &[1.0]), "indices[0]");
    refused(made.update(&[0, 1], &[9.0]), "td_errors");
    for bad in [f64::NAN, f64::NEG_INFINITY, -1e300] {
        refused(made.update(&[0, 1], &[9.0, bad]), "td_errors[1]");
    }
    assert_eq!(made.to_bytes(), before);
    made.update(&[], &[]).unwrap();
    assert_eq!(made.to_bytes(), before);
}

#[test]
fn every_setting_outside_its_range_is_refused_by_name() {
    type Spoil = fn(&mut ReplaySettings);
    let spoil: [(&str, Spoil); 8] = [
        ("capacity", |s| s.capacity = 0),
        ("alpha", |s| s.alpha = -0.1),
        ("alpha", |s| s.alpha = 1.5),
        ("alpha", |s| s.alpha = f64::NAN),
        ("eps", |s| s.eps = 0.0),
        ("eps", |s| s.eps = f64::INFINITY),
        ("eps", |s| s.eps = f64::NAN),
        ("beta_steps", |s| s.beta_steps = Some(0)),
    ];
    for (name, spoil) in spoil {
        let mut settings = ReplaySettings::new(4);
        spoil(&mut settings);
        refused(PrioritizedReplay::new(settings), name);
    }
}

#[test]
fn memory_follows_the_items_and_not_the_capacity() {
    let mut made = replay(|s| s.capacity = 1 << 50);
    made.add(5, None).unwrap();
    made.sample(3, None, true, &mut Draws::default()).unwrap();
    assert_eq!(made.len(), 5);
}
