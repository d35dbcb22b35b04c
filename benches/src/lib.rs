//! What Damselfly is measured with: one definition of each load, shared by the criterion benches, the instruction
//! counts and the loopback comparison, and one face for all contenders. See `docs/performance.md` for what each figure
//! says and how to get it.

pub mod case;
pub mod contender;
pub mod invalid;
pub mod load;
pub mod process;
pub mod wire;
