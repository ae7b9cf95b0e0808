//! The daemon as a whole, in this process: real git, real certificates, agents that behave and
//! agents that don't.
//!
//! Well-behaved ones here keep the wire protocol and nothing else; the real `site-agent` meets the
//! real `stead` in the system tests. What only a hostile peer does is tested here.

#[cfg(test)]
mod daemon {
    mod agents;
    mod commands;
    mod drains;
    mod hostile;
    mod leases;
    mod prerequisites;
    mod revisions;
    mod scene;
    mod writers;
}
