//! What the tests in this folder share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, clippy::panic, reason = "a broken test fixture fails the test")]

pub mod accounting;
pub mod certificates;
pub mod collector;
pub mod rig;
pub mod script;
pub mod shelf;
pub mod site;
