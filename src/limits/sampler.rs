//! Sampling of log lines that anybody can cause: few are written, and they say how many were left out.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Source;

/// The time window in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How many lines of one topic may be written in a second.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Caused by one address.
    pub per_source: u32,
    /// In all.
    pub total: u32,
}

/// Decides which lines are written. It remembers at most as many addresses as lines may be written in a
/// second.
#[derive(Debug)]
pub struct Sampler<K> {
    sampling: Sampling,
    topics: Mutex<HashMap<K, Topic>>,
}

/// What was written about one topic in this second.
#[derive(Debug)]
struct Topic {
    began: Instant,
    lines: u32,
    sources: HashMap<Source, u32>,
    /// How many lines were left out and not reported yet.
    left_out: u64,
}

impl<K: Hash + Eq + Clone> Sampler<K> {
    /// A sampler that has seen no lines yet.
    pub fn new(sampling: Sampling) -> Self {
        Self { sampling, topics: Mutex::default() }
    }

    /// Whether a line may be written. Lines left out are reported by [`left_out`](Self::left_out).
    pub fn admit(&self, topic: K, address: Option<IpAddr>, now: Instant) -> bool {
        let mut topics = self.topics.lock();
        let topic = topics.entry(topic).or_insert_with(|| Topic::new(now));
        topic.admit(self.sampling, address, 1, now)
    }

    /// Asks to write a line that stands for `weight` occurrences. Returns how many it stands for, including
    /// those left out before it; `None` leaves it out.
    pub fn take(
        &self,
        topic: K,
        address: Option<IpAddr>,
        weight: u64,
        now: Instant,
    ) -> Option<u64> {
        let mut topics = self.topics.lock();
        let topic = topics.entry(topic).or_insert_with(|| Topic::new(now));
        let admitted = topic.admit(self.sampling, address, weight, now);
        admitted.then(|| weight + std::mem::take(&mut topic.left_out))
    }

    /// The topics with lines left out, and how many, to be reported in a line of their own: topics without a
    /// line for a second, or all of them at the end (`now` is `None`).
    pub fn left_out(&self, now: Option<Instant>) -> Vec<(K, u64)> {
        let mut topics = self.topics.lock();
        let is_over = |topic: &Topic| now.is_none_or(|now| topic.is_over(now));
        let over = topics.iter_mut().filter(|(_, topic)| topic.left_out > 0 && is_over(topic));
        over.map(|(key, topic)| (key.clone(), std::mem::take(&mut topic.left_out))).collect()
    }
}

impl Topic {
    fn new(now: Instant) -> Self {
        Self { began: now, lines: 0, sources: HashMap::new(), left_out: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }

    fn admit(
        &mut self,
        sampling: Sampling,
        address: Option<IpAddr>,
        weight: u64,
        now: Instant,
    ) -> bool {
        if self.is_over(now) {
            *self = Self { left_out: self.left_out, ..Self::new(now) };
        }
        let admitted = self.has_room(sampling, address.map(Source::of));
        if admitted {
            self.lines += 1;
        } else {
            self.left_out += weight;
        }
        admitted
    }

    fn has_room(&mut self, sampling: Sampling, source: Option<Source>) -> bool {
        if self.lines >= sampling.total {
            return false;
        }
        let Some(source) = source else { return true };
        let of_source = self.sources.entry(source).or_default();
        let has_room = *of_source < sampling.per_source;
        *of_source += u32::from(has_room);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLING: Sampling = Sampling { per_source: 2, total: 5 };

    fn at(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn an_address_has_few_lines_a_second_and_the_next_says_how_many_were_left_out() {
        let (sampler, now) = (Sampler::new(SAMPLING), Instant::now());
        let taken = (0..100).map(|_| sampler.take("a", Some(at(1)), 1, now));
        assert_eq!(taken.flatten().collect::<Vec<_>>(), [1, 1]);
        // Another address, and another topic.
        assert_eq!(sampler.take("a", Some(at(2)), 1, now), Some(99));
        assert_eq!(sampler.take("b", Some(at(1)), 7, now), Some(7));
        let later = now + WINDOW;
        assert_eq!(sampler.take("a", Some(at(1)), 1, later), Some(1));
    }

    #[test]
    fn all_addresses_together_have_few_lines_and_little_memory() {
        let (sampler, now) = (Sampler::new(SAMPLING), Instant::now());
        let lines = (0..=255).filter_map(|number| sampler.take((), Some(at(number)), 1, now));
        assert_eq!(lines.count(), 5);
        let unknown = sampler.take((), None, 1, now);
        assert_eq!(unknown, None);
        assert!(sampler.topics.lock()[&()].sources.len() <= 5);
    }

    #[test]
    fn what_no_line_follows_is_told_by_itself() {
        let (sampler, now) = (Sampler::new(SAMPLING), Instant::now());
        for _ in 0..10 {
            sampler.take("a", Some(at(1)), 1, now);
        }
        assert_eq!(sampler.left_out(Some(now)), []);
        assert_eq!(sampler.left_out(Some(now + WINDOW)), [("a", 8)]);
        assert_eq!(sampler.left_out(None), []);
    }

    proptest! {
        #[test]
        fn every_occurrence_is_accounted_for_once(
            steps in proptest::collection::vec((0_u8..4, 0_u64..700, 1_u64..4), 0..200)
        ) {
            let (sampler, mut now) = (Sampler::new(SAMPLING), Instant::now());
            let (mut wanted, mut told) = (0, 0);
            for (number, millis, weight) in steps {
                now += Duration::from_millis(millis);
                wanted += weight;
                told += sampler.take((), Some(at(number)), weight, now).unwrap_or(0);
            }
            told += sampler.left_out(None).iter().map(|((), count)| count).sum::<u64>();
            prop_assert_eq!(told, wanted);
        }
    }
}
