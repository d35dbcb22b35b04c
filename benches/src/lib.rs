//! What Damselfly is measured with: one definition of each load, shared by the criterion benches, the instruction
//! counts and the loopback comparison. See `docs/performance.md` for what each of them says and how to run it.

pub mod load;
