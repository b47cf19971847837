//! A replay that was saved is the replay.

use super::*;

fn used() -> PrioritizedReplay {
    let mut made = replay(|s| (s.capacity, s.beta_steps, s.seed) = (9, Some(500), 11));
    made.add(7, None).unwrap();
    made.add(4, Some(&[0.5, 4.0, 0.0, 2.0])).unwrap();
    made.update(&[1, 8], &[-0.3, 7.5]).unwrap();
    made.update(&[8], &[0.1]).unwrap();
    made.sample(5, None, false, &mut Draws::default()).unwrap();
    made
}

#[test]
fn a_loaded_replay_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay");
    let mut made = used();
    made.save(&path).unwrap();
    let mut loaded = PrioritizedReplay::load(&path).unwrap();
    assert_eq!(loaded.settings(), made.settings());
    let (mut ours, mut theirs) = (Draws::default(), Draws::default());
    for replace in [true, false, true] {
        assert_eq!(made.add(2, None).unwrap(), loaded.add(2, None).unwrap());
        made.sample(6, None, replace, &mut ours).unwrap();
        loaded.sample(6, None, replace, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(made.beta(), loaded.beta());
    }
    assert_eq!(made.to_bytes(), loaded.to_bytes());
    let empty = replay(|_| ());
    assert!(PrioritizedReplay::from_bytes(&empty.to_bytes()).unwrap().is_empty());
}

#[test]
fn damage_is_found_wherever_it_hit() {
    let whole = used().to_bytes();
    for cut in 0..whole.len() {
        let error = PrioritizedReplay::from_bytes(&whole[..cut]).err();
        assert!(matches!(error, Some(Error::Corrupt { .. })), "cut at {cut}");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let error = PrioritizedReplay::from_bytes(&flipped).err();
        assert!(matches!(error, Some(Error::Corrupt { .. })), "flipped at {at}");
    }
}

/// The bytes with the number at `at` replaced and the checksum made to fit.
fn lying(at: usize, number: [u8; 8]) -> Vec<u8> {
    let mut bytes = used().to_bytes();
    let end = bytes.len() - 4;
    bytes.truncate(end);
    bytes[at..at + 8].copy_from_slice(&number);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

#[test]
fn numbers_that_lie_under_a_right_checksum_are_not_believed() {
    let place = |number: usize| 12 + 8 * number;
    let wrong = [
        (0, 0_u64.to_le_bytes()),
        (0, 3_u64.to_le_bytes()),
        (0, u64::MAX.to_le_bytes()),
        (1, 2.0_f64.to_le_bytes()),
        (2, f64::NAN.to_le_bytes()),
        (5, 9_u64.to_le_bytes()),
        (6, 0.5_f64.to_le_bytes()),
        (6, f64::INFINITY.to_le_bytes()),
        (8, 8_u64.to_le_bytes()),
        (8, u64::MAX.to_le_bytes()),
        (9, f64::NAN.to_le_bytes()),
        (10, (-1.0_f64).to_le_bytes()),
    ];
    for (number, bytes) in wrong {
        let error = PrioritizedReplay::from_bytes(&lying(place(number), bytes)).err();
        assert!(matches!(error, Some(Error::Corrupt { .. })), "number {number}");
    }
}

#[test]
fn files_of_newer_versions_and_of_other_programs_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replay");
    let mut newer = lying(12, 9_u64.to_le_bytes());
    let end = newer.len() - 4;
    newer.truncate(end);
    newer[8] = 7;
    newer.extend_from_slice(&crc32fast::hash(&newer).to_le_bytes());
    std::fs::write(&path, &newer).unwrap();
    let error = PrioritizedReplay::load(&path).err();
    assert!(matches!(error, Some(Error::Version { found: 7, newest: 1, .. })), "{error:?}");
    std::fs::write(&path, b"Dear diary").unwrap();
    assert!(matches!(PrioritizedReplay::load(&path).err(), Some(Error::Format { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(PrioritizedReplay::load(&path).err(), Some(Error::Io { .. })));
}
