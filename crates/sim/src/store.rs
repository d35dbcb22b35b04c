//! The store of a client with an outbox: what it keeps when the process ends at any moment.

use std::collections::VecDeque;

use damselfly_client::{CommitId, Operation, OperationError};
use damselfly_topic::KeyedState;

use crate::random::Random;

/// A file of groups. Each is a length, a checksum and the operations, each with its length; a group counts whole or not
/// at all.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// On disk for good.
    synced: Vec<u8>,
    /// Handed to the system: after a crash there or not.
    written: VecDeque<Written>,
    /// Operations of the group that is being said.
    open: Vec<Operation>,
}

#[derive(Debug)]
struct Written {
    commit: CommitId,
    write: Write,
    /// Received QoS 2 messages that the application gets once the group is stored.
    messages: usize,
}

#[derive(Debug)]
enum Write {
    /// At the end of the file: a crash may leave a part of it.
    Append(Vec<u8>),
    /// A new file takes the place of the old one: that happens or not.
    Replace(Vec<u8>),
}

/// What a process finds when it starts.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) operations: Vec<Operation>,
    /// Received QoS 2 messages in groups that survived though nobody was told that they are stored.
    pub(crate) untold_messages: usize,
    /// There are groups that were not known to be synced.
    pub(crate) has_unsynced: bool,
    /// A part of a group was cut off.
    pub(crate) is_torn: bool,
}

const CHECKSUM: KeyedState = KeyedState::new(0);
const HEAD: usize = 4 + 8;
/// Most groups are no longer.
const USUAL_GROUP: usize = 256;

impl Store {
    pub(crate) fn record(&mut self, operation: Operation) {
        self.open.push(operation);
    }

    /// Writes the open group; with a snapshot a new file that begins with it.
    pub(crate) fn write(&mut self, commit: CommitId, snapshot: Option<Vec<Operation>>) {
        let messages = self.open.iter().filter(|operation| matches!(operation, Operation::Receive { .. })).count();
        let write = match snapshot {
            Some(snapshot) => Write::Replace(group(&snapshot)),
            None => Write::Append(group(&self.open)),
        };
        self.open.clear();
        self.written.push_back(Written { commit, write, messages });
    }

    /// Everything up to this group is on disk.
    pub(crate) fn sync(&mut self, commit: CommitId) {
        while self.written.front().is_some_and(|written| written.commit <= commit) {
            let Some(written) = self.written.pop_front() else { return };
            self.keep(written.write);
        }
    }

    fn keep(&mut self, write: Write) {
        match write {
            Write::Append(bytes) => self.synced.extend_from_slice(&bytes),
            Write::Replace(bytes) => self.synced = bytes,
        }
    }

    /// The process ends: of what was not synced a part is there, up to any byte, and its last byte may be another.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Result<Image, OperationError> {
        self.open.clear();
        let mut image = Image::default();
        let count = u64::try_from(self.written.len()).unwrap_or(u64::MAX);
        for _ in 0..random.between(0, count) {
            let Some(written) = self.written.pop_front() else { break };
            image.untold_messages += written.messages;
            image.has_unsynced = true;
            self.keep(written.write);
        }
        if let Some(Written { write: Write::Append(mut bytes), .. }) = self.written.pop_front() {
            let len = random.between(0, u64::try_from(bytes.len()).unwrap_or(0).saturating_sub(1));
            bytes.truncate(usize::try_from(len).unwrap_or(0));
            if let Some(last) = bytes.last_mut().filter(|_| random.between(0, 3) == 0) {
                *last ^= 0x40;
            }
            self.synced.extend_from_slice(&bytes);
        }
        self.written.clear();
        let mut rest = &self.synced[..];
        while let Some((body, tail)) = split_group(rest) {
            image.operations.extend(read_group(body)?);
            rest = tail;
        }
        image.is_torn = !rest.is_empty();
        self.synced.truncate(self.synced.len() - rest.len());
        Ok(image)
    }
}

fn group(operations: &[Operation]) -> Vec<u8> {
    let mut group = Vec::with_capacity(USUAL_GROUP);
    group.resize(HEAD, 0);
    for operation in operations {
        let start = group.len();
        group.extend_from_slice(&[0; 4]);
        // What the core took into its outbox can be encoded.
        let _ = operation.encode(&mut group);
        put_len(&mut group, start, 4);
    }
    let checksum = CHECKSUM.hash_bytes(group.get(HEAD..).unwrap_or_default());
    put_len(&mut group, 0, HEAD);
    if let Some(place) = group.get_mut(4..HEAD) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    group
}

/// Writes at `start` how much follows the head that begins there.
fn put_len(group: &mut [u8], start: usize, head: usize) {
    let len = u32::try_from(group.len() - start - head).unwrap_or(u32::MAX);
    if let Some(place) = group.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

fn split_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u32::from_be_bytes(*len)).ok()?, rest))
}

/// The body of the first group and what follows it: `None` at the end and at a torn group.
fn split_group(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = split_len(bytes)?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(len)?;
    (CHECKSUM.hash_bytes(body) == u64::from_be_bytes(*checksum)).then_some((body, rest))
}

fn read_group(mut body: &[u8]) -> Result<Vec<Operation>, OperationError> {
    let mut operations = Vec::new();
    while !body.is_empty() {
        let (len, rest) = split_len(body).ok_or(OperationError::Short)?;
        let (operation, rest) = rest.split_at_checked(len).ok_or(OperationError::Short)?;
        operations.push(Operation::decode(operation)?);
        body = rest;
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use damselfly_client::{Client, Config, OutboxConfig, Output};
    use damselfly_codec::{Properties, QoS};
    use damselfly_session::{Message, Timestamp};
    use damselfly_topic::TopicName;

    use super::*;

    fn journal() -> Vec<(CommitId, Vec<Operation>)> {
        let mut config = Config::new("c");
        config.outbox = Some(OutboxConfig::default());
        let mut client = Client::new(config, 1);
        let (mut groups, mut open) = (Vec::new(), Vec::new());
        for payload in ["1", "2", "3"] {
            let topic = TopicName::new("t").unwrap();
            let now = Timestamp::from_secs(1);
            let message = Message::compose(topic, payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY, now);
            client.publish(now, message).unwrap();
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Journal(operation) => open.push(operation),
                    Output::Commit(id) => groups.push((id, std::mem::take(&mut open))),
                    _ => {}
                }
            }
        }
        groups
    }

    #[test]
    fn crash_keeps_what_was_synced_and_whole_groups_of_the_rest_in_their_order() {
        let groups = journal();
        assert_eq!(groups.len(), 3);
        let (mut lens, mut torn) = (std::collections::BTreeSet::new(), 0);
        for seed in 0..200 {
            let mut store = Store::default();
            for (id, operations) in &groups {
                operations.iter().cloned().for_each(|operation| store.record(operation));
                store.write(*id, None);
            }
            store.sync(groups[0].0);
            let image = store.crash(&mut Random::new(seed)).unwrap();
            let all: Vec<_> = groups.iter().flat_map(|(_, operations)| operations.clone()).collect();
            assert_eq!(image.operations, all[..image.operations.len()], "a prefix");
            lens.insert(image.operations.len());
            torn += usize::from(image.is_torn);
            let again = store.crash(&mut Random::new(0)).unwrap();
            assert_eq!(again.operations, image.operations, "and it is there the next time");
            assert!(!again.is_torn, "the torn part was cut off");
        }
        let ends = |count: usize| groups[..count].iter().map(|(_, operations)| operations.len()).sum::<usize>();
        assert_eq!(lens, [ends(1), ends(2), ends(3)].into(), "groups are whole, and the synced one is always there");
        assert!(torn > 50, "the test is about torn groups: {torn}");
    }

    #[test]
    fn snapshot_takes_the_place_of_all_before_it_or_not_at_all() {
        let groups = journal();
        let snapshot = vec![groups[2].1[0].clone()];
        let before: Vec<_> = groups[..2].iter().flat_map(|(_, operations)| operations.clone()).collect();
        let mut seen = [0; 2];
        for seed in 0..100 {
            let mut store = Store::default();
            for (id, operations) in &groups[..2] {
                operations.iter().cloned().for_each(|operation| store.record(operation));
                store.write(*id, None);
                store.sync(*id);
            }
            store.record(groups[2].1[0].clone());
            store.write(groups[2].0, Some(snapshot.clone()));
            let image = store.crash(&mut Random::new(seed)).unwrap();
            if image.operations == snapshot {
                seen[1] += 1;
            } else {
                assert_eq!(image.operations, before);
                seen[0] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }
}
