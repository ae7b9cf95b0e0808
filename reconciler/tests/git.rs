//! The git source against real repositories, a real ssh server and a real https server.
//!
//! One binary; what each file proves stands at its top.

#[cfg(test)]
mod git {
    mod folders;
    mod following;
    mod https;
    mod local;
    mod scratch;
    mod servers;
    mod ssh;
    mod too_large;
    mod webhook;
}
