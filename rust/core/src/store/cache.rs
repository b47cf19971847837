//! Answers that were given before: least recently used first to go, each for a limited time, and all of them as soon as
//! anything was written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::change::Position;
use super::options::CacheSettings;
use super::search::Answer;

/// Answers larger than this in all make room for each other, whatever their number.
const BUDGET: usize = 32 << 20;

/// The cache of one open store.
pub(super) struct Cache {
    settings: CacheSettings,
    /// Where the file stood when the answers were given.
    at: Option<Position>,
    slots: HashMap<Arc<[u8]>, Slot, Xxh3DefaultBuilder>,
    /// The keys by their last use.
    used: BTreeMap<u64, Arc<[u8]>>,
    uses: u64,
    bytes: usize,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

struct Slot {
    answer: Arc<Answer>,
    given_ms: i64,
    last_use: u64,
}

impl Cache {
    pub(super) fn new(settings: CacheSettings) -> Self {
        Self {
            settings,
            at: None,
            slots: HashMap::default(),
            used: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            hits: 0,
            misses: 0,
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.settings.enabled && self.settings.max_size > 0
    }

    /// The answer that was given to the same question in the same state of the file.
    pub(super) fn get(&mut self, key: &[u8], at: Position, now_ms: i64) -> Option<Arc<Answer>> {
        if self.at != Some(at) {
            if self.at.is_none_or(|known| known < at) {
                self.clear(at);
            }
            return None;
        }
        // A clock that went back makes an answer old as well.
        let fresh = |slot: &Slot| (0..self.settings.ttl_ms).contains(&(now_ms - slot.given_ms));
        match self.slots.get(key).map(fresh) {
            Some(true) => {
                self.hits += 1;
                self.touch(key)
            }
            Some(false) => {
                self.forget(key);
                None
            }
            None => None,
        }
    }

    /// Keeps an answer that had to be worked out, if the file still stands where it was given.
    pub(super) fn put(&mut self, key: Arc<[u8]>, at: Position, answer: &Arc<Answer>, now_ms: i64) {
        self.misses += 1;
        let size = size(&key, answer);
        if self.at != Some(at) || size > BUDGET {
            return;
        }
        self.forget(&key);
        while self.slots.len() >= self.settings.max_size || self.bytes + size > BUDGET {
            let Some((_, oldest)) = self.used.pop_first() else { return };
            self.forget(&oldest);
        }
        self.uses += 1;
        self.bytes += size;
        self.used.insert(self.uses, Arc::clone(&key));
        let slot = Slot { answer: Arc::clone(answer), given_ms: now_ms, last_use: self.uses };
        self.slots.insert(key, slot);
    }

    fn touch(&mut self, key: &[u8]) -> Option<Arc<Answer>> {
        let slot = self.slots.get_mut(key)?;
        self.uses += 1;
        let name = self.used.remove(&slot.last_use)?;
        self.used.insert(self.uses, name);
        slot.last_use = self.uses;
        Some(Arc::clone(&slot.answer))
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(slot) = self.slots.remove(key) {
            self.used.remove(&slot.last_use);
            self.bytes -= size(key, &slot.answer);
        }
    }

    fn clear(&mut self, at: Position) {
        self.at = Some(at);
        self.slots.clear();
        self.used.clear();
        self.bytes = 0;
    }
}

/// Bytes that an answer holds, about.
fn size(key: &[u8], answer: &Answer) -> usize {
    let Answer { hits, rows } = answer;
    let texts = |column: &Option<Vec<Option<String>>>| -> usize {
        column.iter().flatten().flatten().map(String::len).sum()
    };
    let numbers = size_of_val(&rows.states[..]) + size_of_val(&rows.actions[..]);
    let written = texts(&rows.extras) + texts(&rows.action_metadata) + texts(&rows.task_ids);
    key.len() + size_of_val(&hits[..]) + numbers + written + 512 * rows.len + 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(max_size: usize, ttl_ms: i64) -> Cache {
        Cache::new(CacheSettings { enabled: true, max_size, ttl_ms })
    }

    fn key(name: u8) -> Arc<[u8]> {
        Arc::from([name])
    }

    fn answer() -> Arc<Answer> {
        Arc::new(Answer { hits: Vec::new(), rows: crate::Rows::default() })
    }

    const AT: Position = Position { row: 1, change: 0 };

    #[test]
    fn the_answer_that_was_not_asked_for_longest_makes_room() {
        let mut cache = cache(2, 1000);
        assert!(cache.get(&key(1), AT, 0).is_none());
        cache.put(key(1), AT, &answer(), 0);
        cache.put(key(2), AT, &answer(), 0);
        assert!(cache.get(&key(1), AT, 0).is_some());
        cache.put(key(3), AT, &answer(), 0);
        assert!(cache.get(&key(2), AT, 0).is_none());
        assert!(cache.get(&key(1), AT, 0).is_some() && cache.get(&key(3), AT, 0).is_some());
        assert_eq!((cache.hits, cache.misses, cache.used.len()), (3, 3, 2));
    }

    #[test]
    fn an_answer_is_old_after_its_time_and_after_the_clock_went_back() {
        let mut cache = cache(2, 1000);
        cache.get(&key(1), AT, 0);
        cache.put(key(1), AT, &answer(), 500);
        assert!(cache.get(&key(1), AT, 1499).is_some());
        assert!(cache.get(&key(1), AT, 1500).is_none());
        cache.put(key(1), AT, &answer(), 500);
        assert!(cache.get(&key(1), AT, 499).is_none());
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn a_write_empties_it_and_an_older_snapshot_gets_nothing() {
        let mut cache = cache(2, 1000);
        cache.get(&key(1), AT, 0);
        cache.put(key(1), AT, &answer(), 0);
        let later = Position { row: 1, change: 1 };
        assert!(cache.get(&key(1), later, 0).is_none());
        cache.put(key(2), AT, &answer(), 0);
        assert!(cache.get(&key(2), AT, 0).is_none() && cache.slots.is_empty());
    }
}
