//! A part of a state that most next states share: cloned by reference, hashed once.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A value with its hash, which is the same in every run.
#[derive(Debug)]
pub struct Shared<T>(Arc<Hashed<T>>);

#[derive(Debug)]
struct Hashed<T> {
    value: T,
    /// 0: not known yet.
    hash: AtomicU64,
}

impl<T: Hash> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        let hash = AtomicU64::new(0);
        Self(Arc::new(Hashed { value, hash }))
    }

    fn known(&self) -> u64 {
        let known = self.0.hash.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let mut hasher = Folded(SEED);
        self.0.value.hash(&mut hasher);
        let hash = hasher.finish().max(1);
        self.0.hash.store(hash, Ordering::Relaxed);
        hash
    }
}

impl<T: Clone> Shared<T> {
    pub(super) fn make_mut(&mut self) -> &mut T {
        let hashed = Arc::make_mut(&mut self.0);
        *hashed.hash.get_mut() = 0;
        &mut hashed.value
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Clone for Hashed<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            hash: AtomicU64::new(0),
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.known());
    }
}

impl<T: PartialEq + Hash> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.known() == other.known() && **self == **other)
    }
}

impl<T: Eq + Hash> Eq for Shared<T> {}

impl<T: Ord + Hash> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord + Hash> Ord for Shared<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

const SEED: u64 = 0x2d35_8dcc_aa6c_78a5;
const FACTOR: u64 = 0x8bb8_4b93_962e_acc9;

/// The halves of a product with a large odd number, put together: as good as what the checker itself
/// tells states apart by, and a third of the cost of the standard one.
struct Folded(u64);

impl Folded {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        let bytes = product.to_le_bytes();
        let half = |from: usize| {
            let mut half = [0; 8];
            half.copy_from_slice(&bytes[from..from + 8]);
            u64::from_le_bytes(half)
        };
        self.0 = (half(0) ^ half(8)).wrapping_add(SEED);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write(&word.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.mix(SEED);
        last.0
    }
}
