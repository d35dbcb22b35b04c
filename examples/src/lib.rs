//! Part of Damselfly.
