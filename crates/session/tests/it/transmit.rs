//! Whatever is appended and however it is written, the same bytes leave in the same order.

use bytes::Bytes;
use damselfly_session::{BufferPool, BufferPoolLimits, TransmitBuffer};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Share(usize),
    Write(usize),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_000_usize).prop_map(Step::Append),
        2 => (0..5_000_usize).prop_map(Step::Share),
        6 => (0..9_000_usize).prop_map(Step::Write),
        1 => Just(Step::Clear),
    ]
}

fn pattern(len: usize, counter: &mut u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4);
    while bytes.len() < len {
        *counter += 1;
        bytes.extend_from_slice(&counter.to_be_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn joined(out: &TransmitBuffer) -> Vec<u8> {
    let mut chunks = vec![&[][..]; 2_000];
    let count = out.chunks(&mut chunks);
    chunks.truncate(count);
    chunks.concat()
}

#[test]
fn copied_and_shared_bytes_take_turns_in_as_many_places_as_there_are() {
    let mut pool = BufferPool::default();
    let mut out = TransmitBuffer::new();
    assert_eq!(out.chunks(&mut [&[][..]; 5]), 0);
    out.tail(&mut pool).extend_from_slice(b"one");
    let payloads = ["two", "three", "five"].map(|text| text.repeat(1_000));
    out.push_shared(Bytes::from(payloads[0].clone()), &mut pool);
    out.push_shared(Bytes::from(payloads[1].clone()), &mut pool);
    out.tail(&mut pool).extend_from_slice(b"four");
    out.push_shared(Bytes::from(payloads[2].clone()), &mut pool);
    let expected = ["one", &payloads[0], &payloads[1], "four", &payloads[2]];
    for places in 0..7 {
        let mut chunks = vec![&[][..]; places];
        let count = out.chunks(&mut chunks);
        assert_eq!(count, places.min(5));
        assert!(chunks[..count].iter().zip(expected).all(|(chunk, text)| *chunk == text.as_bytes()), "{places}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_mix_of_appends_and_partial_writes_keeps_the_bytes_in_order(
        steps in proptest::collection::vec(step(), 1..80),
        places in 1..4_usize,
    ) {
        let mut pool = BufferPool::default();
        let mut out = TransmitBuffer::new();
        let mut model = Vec::new();
        let mut counter = 0;
        for step in steps {
            match step {
                Step::Append(len) => {
                    let bytes = pattern(len, &mut counter);
                    out.tail(&mut pool).extend_from_slice(&bytes);
                    model.extend_from_slice(&bytes);
                }
                Step::Share(len) => {
                    let bytes = pattern(len, &mut counter);
                    model.extend_from_slice(&bytes);
                    out.push_shared(Bytes::from(bytes), &mut pool);
                }
                Step::Write(len) => {
                    // A driver with few places sees a prefix, and never an empty slice.
                    let mut chunks = vec![&[][..]; places];
                    let count = out.chunks(&mut chunks);
                    prop_assert!(chunks[..count].iter().all(|chunk| !chunk.is_empty()));
                    let seen = chunks[..count].concat();
                    prop_assert_eq!(&model[..seen.len()], &seen[..]);
                    let len = len.min(seen.len());
                    out.advance(len, &mut pool);
                    model.drain(..len);
                }
                Step::Clear => {
                    out.clear(&mut pool);
                    model.clear();
                }
            }
            prop_assert_eq!(out.len(), model.len());
            prop_assert_eq!(out.is_empty(), model.is_empty());
            prop_assert_eq!(&joined(&out), &model);
        }
        out.advance(usize::MAX, &mut pool);
        prop_assert!(out.is_empty());
        prop_assert_eq!(out.heap_bytes(), 0);
    }
}

#[test]
fn drained_buffer_owns_nothing_and_its_memory_serves_the_next_connection() {
    let mut pool = BufferPool::default();
    let mut first = TransmitBuffer::new();
    first.tail(&mut pool).extend_from_slice(&[7; 3_000]);
    let address = first.tail(&mut pool).as_ptr();
    assert_eq!(pool.len(), 0);

    first.advance(2_999, &mut pool);
    assert!(first.heap_bytes() > 0);
    first.advance(1, &mut pool);
    assert_eq!((first.heap_bytes(), pool.len()), (0, 1));

    let mut second = TransmitBuffer::new();
    assert_eq!(second.tail(&mut pool).as_ptr(), address);
    assert!(second.tail(&mut pool).is_empty());
}

#[test]
fn buffer_that_was_taken_and_not_filled_goes_back_too() {
    let mut pool = BufferPool::default();
    let mut out = TransmitBuffer::new();
    out.tail(&mut pool);
    out.advance(0, &mut pool);
    assert_eq!((out.heap_bytes(), pool.len()), (0, 1));
}

#[test]
fn empty_payload_takes_no_place() {
    let mut pool = BufferPool::default();
    let mut out = TransmitBuffer::new();
    out.push_shared(Bytes::new(), &mut pool);
    assert!(out.is_empty());
    assert_eq!(out.heap_bytes(), 0);
}

#[test]
fn slow_reader_does_not_keep_what_it_has_read() {
    let mut pool = BufferPool::default();
    let mut out = TransmitBuffer::new();
    out.tail(&mut pool).extend_from_slice(&[1; 1_000]);
    for _ in 0..10_000 {
        out.tail(&mut pool).extend_from_slice(&[2; 100]);
        out.advance(100, &mut pool);
    }
    assert_eq!(out.len(), 1_000);
    assert!(out.heap_bytes() <= 16 * 1_024, "{}", out.heap_bytes());
}

#[test]
fn pool_keeps_no_more_than_its_limits() {
    let mut limits = BufferPoolLimits::default();
    limits.buffers = 3;
    limits.buffer_bytes = 127;
    limits.total_bytes = 300;

    let mut pool = BufferPool::new(limits);
    pool.give(Vec::with_capacity(128));
    assert_eq!(pool.len(), 0, "too large");
    for _ in 0..4 {
        pool.give(Vec::with_capacity(50));
    }
    assert_eq!(pool.len(), 3, "too many");

    let mut pool = BufferPool::new(limits);
    for _ in 0..3 {
        pool.give(Vec::with_capacity(127));
    }
    assert_eq!(pool.len(), 2, "too much in all");
    let taken = [pool.take(), pool.take()];
    assert!(pool.is_empty());
    for buffer in taken {
        pool.give(buffer);
    }
    assert_eq!(pool.len(), 2, "what was taken does not count");
    pool.shrink();
    assert_eq!(pool.heap_bytes(), 0);
}

#[test]
fn pool_is_filled_to_the_last_byte_and_keeps_nothing_empty() {
    let mut limits = BufferPoolLimits::default();
    limits.total_bytes = 300;
    let mut pool = BufferPool::new(limits);
    pool.give(Vec::new());
    assert_eq!((pool.len(), pool.is_empty()), (0, true));
    pool.give(Vec::with_capacity(253));
    pool.give(Vec::with_capacity(48));
    assert_eq!((pool.len(), pool.is_empty()), (1, false), "48 bytes are one too many");
    pool.give(Vec::with_capacity(47));
    assert_eq!((pool.len(), pool.is_empty()), (2, false));
    // Beside the buffers, a vector of four places for them.
    assert_eq!(pool.heap_bytes(), 300 + 4 * size_of::<Vec<u8>>());
    assert_eq!(pool.take().capacity(), 47);
    assert_eq!(pool.heap_bytes(), 253 + 4 * size_of::<Vec<u8>>());
    assert!(BufferPool::default().take().capacity() >= 512, "a few small frames");
}

#[test]
fn buffers_memory_is_what_was_copied_and_what_is_shared() {
    let mut pool = BufferPool::default();
    let mut out = TransmitBuffer::new();
    assert_eq!(out.heap_bytes(), 0);
    out.tail(&mut pool).extend_from_slice(&[1; 100]);
    let copied = out.tail(&mut pool).capacity();
    assert_eq!(out.heap_bytes(), copied);
    out.push_shared(Bytes::from(vec![2; 5_000]), &mut pool);
    // The list: a ring of four payloads with their places, and three words about it.
    let list = 32 + 2 * size_of::<usize>() + 4 * (size_of::<Bytes>() + size_of::<usize>());
    assert_eq!(out.heap_bytes(), copied + list + 5_000);
    out.advance(2_100, &mut pool);
    assert_eq!((out.len(), out.heap_bytes()), (3_000, copied + list + 3_000), "what is written is held no more");

    out.clear(&mut pool);
    assert_eq!((out.len(), out.heap_bytes()), (0, 0));
    // The list is kept too: a vector of four places for such boxes.
    assert_eq!(pool.heap_bytes(), copied + 4 * size_of::<Vec<u8>>() + list + 4 * size_of::<usize>());
    out.push_shared(Bytes::from_static(b"next"), &mut pool);
    assert_eq!(out.heap_bytes(), list + 4);
    assert_eq!(pool.heap_bytes(), copied + 4 * (size_of::<Vec<u8>>() + size_of::<usize>()), "it is used again");
}

#[test]
fn list_that_has_grown_long_is_not_kept() {
    for (payloads, is_kept) in [(64, true), (65, false)] {
        let mut pool = BufferPool::default();
        let mut out = TransmitBuffer::new();
        (0..payloads).for_each(|_| out.push_shared(Bytes::from_static(b"payload"), &mut pool));
        out.clear(&mut pool);
        assert_eq!(pool.heap_bytes() > 0, is_kept, "{payloads}");
    }
}

#[test]
fn no_more_than_64_lists_are_kept() {
    let mut pool = BufferPool::default();
    let mut buffers: Vec<TransmitBuffer> = (0..66).map(|_| TransmitBuffer::new()).collect();
    for out in &mut buffers {
        out.push_shared(Bytes::from_static(b"payload"), &mut pool);
    }
    let mut held = Vec::new();
    for out in &mut buffers {
        out.clear(&mut pool);
        held.push(pool.heap_bytes());
    }
    assert!(held[..64].is_sorted_by(|before, after| before < after), "each of 64 is kept");
    assert_eq!(held[63..], [held[63]; 3], "and no other");
}

#[test]
fn what_is_written_is_cut_off_when_it_is_4_kib_and_half_of_all() {
    for (len, steps) in [(8_192, [(4_095, 8_192), (1, 4_096)]), (10_000, [(4_999, 10_000), (1, 5_000)])] {
        let mut pool = BufferPool::default();
        let mut out = TransmitBuffer::new();
        out.tail(&mut pool).extend_from_slice(&vec![1; len]);
        for (written, kept) in steps {
            out.advance(written, &mut pool);
            assert_eq!(out.tail(&mut pool).len(), kept, "{written} of {len}");
        }
    }
}
