//! What is no error but worth a line in a log, kept until somebody asks.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::UNPOISONED;

/// Lines that are kept at most: who never asks must not pay for it.
const KEPT: usize = 64;

/// Lines in the order in which they were told.
#[derive(Default)]
pub(super) struct News {
    any: AtomicBool,
    lines: Mutex<Vec<String>>,
}

impl News {
    pub(super) fn tell(&self, line: impl Into<String>) {
        let mut lines = self.lines.lock().expect(UNPOISONED);
        if lines.len() < KEPT {
            lines.push(line.into());
        }
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Vec<String> {
        let mut lines = self.lines.lock().expect(UNPOISONED);
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *lines)
    }
}
