//! Part of Damselfly.
#![no_std]
