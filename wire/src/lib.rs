//! The wire: mutual TLS with Stead identities, shared by the two programs.
//!
//! Who speaks is read from the certificate and nowhere else ([`identity`]); a program's own
//! certificate, key and CA come from three files ([`material`]); [`peer`] calls, [`serve`] answers,
//! [`pki`] makes CAs and certificates. It is an effects crate between `stead` and `site-agent` so
//! that security code exists once (docs/decisions/0003-wire-crate.md); [`local`] says where calls leave
//! from. It knows no message of the
//! protocol and decides nothing about who may do what: handlers do, from [`serve::Caller`]. Only of
//! dates it knows that commands need good ones ([`dates`], [`doors`]).

pub mod clock;
pub mod csr;
pub mod dates;
pub mod doors;
pub mod identity;
pub mod lines;
pub mod local;
pub mod material;
pub mod meeting;
pub mod peer;
pub mod pki;
pub mod pki_files;
pub mod serve;
pub mod tls;
mod verify;
