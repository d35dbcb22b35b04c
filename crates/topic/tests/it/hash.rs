//! The keyed hasher.

use core::hash::{BuildHasher, Hasher};

use damselfly_topic::KeyedState;

#[test]
fn a_seed_decides_the_order() {
    let order = |seed| {
        let state = KeyedState::new(seed);
        let mut keys: Vec<u32> = (0..100).collect();
        keys.sort_by_key(|key| state.hash_one(key));
        keys
    };

    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert_ne!(order(0), (0..100).collect::<Vec<u32>>());
}

/// Each input bit changes about half of the output bits, for every seed tried.
#[test]
fn every_input_bit_reaches_the_output() {
    for seed in [0, 1, u64::MAX] {
        let state = KeyedState::new(seed);
        for len in [1_usize, 3, 4, 7, 8, 9, 16, 17, 31, 40] {
            for bit in 0..len * 8 {
                let mut flips = 0;
                for round in 0..16_u8 {
                    let mut bytes = vec![round.wrapping_mul(37); len];
                    let before = state.hash_bytes(&bytes);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    flips += (before ^ state.hash_bytes(&bytes)).count_ones();
                }
                let mean = f64::from(flips) / 16.0;
                assert!((24.0..40.0).contains(&mean), "bit {bit} of {len} bytes flips {mean} bits");
            }
        }
    }
}

/// Small integers, the usual keys, are spread over the lowest and the highest bits alike.
#[test]
fn small_integers_fill_all_buckets() {
    for seed in 0..20 {
        let state = KeyedState::new(seed);
        let (mut low, mut high) = ([0_u32; 64], [0_u32; 64]);
        for key in 0..6_400_u64 {
            let hash = state.hash_one(key);
            low[usize::try_from(hash % 64).unwrap()] += 1;
            high[usize::try_from(hash >> 58).unwrap()] += 1;
        }
        for count in low.into_iter().chain(high) {
            assert!((50..150).contains(&count), "{count} of 100 in a bucket, seed {seed}");
        }
    }
}

/// Zeros at the end, at the front, and the same bytes cut elsewhere.
#[test]
fn lengths_are_part_of_the_hash() {
    let state = KeyedState::new(3);
    let mut seen = Vec::new();
    for len in 0..100 {
        seen.push(state.hash_bytes(&vec![0; len]));
        seen.push(state.hash_bytes(&[&vec![0; len][..], b"a"].concat()));
        seen.push(state.hash_bytes(&[&b"a"[..], &vec![0; len + 1]].concat()));
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);

    let of = |parts: &[&[u8]]| {
        let mut hasher = state.build_hasher();
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    };
    assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    assert_ne!(of(&[b"abc", b""]), of(&[b"abc"]));
    assert_ne!(state.hash_one(("ab", "c")), state.hash_one(("a", "bc")));
}

#[test]
fn keys_are_not_shown() {
    assert_eq!(format!("{:?}", KeyedState::new(1)), "KeyedState { .. }");
    assert_eq!(format!("{:?}", KeyedState::new(1).build_hasher()), "KeyedHasher { .. }");
}

/// A trace of one seed can be followed anywhere, so these numbers are those of every machine and every release.
#[test]
fn a_seed_gives_the_same_hashes_everywhere() {
    for (seed, of_word, of_parts, of_bytes) in [
        (0, 0x5dc2_54c7_0e94_75f4, 0xb101_b83a_f2fa_2191, 0x1698_7d33_c6f3_b9a5),
        (7, 0x03a7_6e4c_c11d_c412, 0x44e6_3eb6_2c2b_88c3, 0x35aa_583c_b66c_5935),
        (u64::MAX, 0x99fe_a878_7bb8_2860, 0xf478_ae57_0494_5386, 0x262f_d8a0_d9c4_ad56),
    ] {
        let state = KeyedState::new(seed);
        assert_eq!((state.hash_word(9), state.hash_one(9_u16)), (of_word, of_word), "seed {seed}");

        let mut hasher = state.build_hasher();
        hasher.write_u8(1);
        hasher.write_u16(2);
        hasher.write_u32(3);
        hasher.write_u64(4);
        hasher.write_usize(5);
        hasher.write(b"six");
        assert_eq!(hasher.finish(), of_parts, "seed {seed}");

        let all = (0..100_u8).fold(0_u64, |all, len| {
            let bytes: Vec<u8> = (0..len).map(|at| at.wrapping_mul(167) ^ len).collect();
            all.rotate_left(7) ^ state.hash_bytes(&bytes)
        });
        assert_eq!(all, of_bytes, "seed {seed}");
    }
}
