//! The four models, and each way to go wrong, which must be found. Short bounds here;
//! `MODELS=long` (`tests/long models`) exhausts the full ones.

use lease_models::{
    Faults, Rules, Variant, World, configuration, configuration_bounds, configuration_variants,
    database_bounds, dns_bounds, exhaust, find, lease, lease_bounds, lease_variants, release,
    release_bounds, release_variants, tokens, tokens_variants,
};

fn holds(name: &str, model: fn(Rules) -> World, short: Rules, full: Rules) {
    let long = std::env::var("MODELS").is_ok_and(|which| which == "long");
    let outcome = exhaust(model(if long { full } else { short }));
    assert!(outcome.broken.is_empty(), "{name}: {outcome}");
    println!("model {name}: {outcome}, exhausted");
    if long {
        assert!(outcome.unseen.is_empty(), "{name}: {:?}", outcome.unseen);
    }
}

fn every_one_is_found(variants: Vec<Variant>) {
    for variant in variants {
        let (wrong, breaks) = (variant.wrong, variant.breaks);
        let outcome = find(variant);
        let found = outcome.broken.iter().find(|(name, _)| *name == breaks);
        let Some((_, steps)) = found else {
            panic!("{wrong:?}: nobody noticed: {outcome}");
        };
        let states = outcome.states;
        println!(
            "variant {wrong:?}: {breaks} broken in {} steps, {states} states",
            steps.len()
        );
    }
}

fn without(faults: Faults, full: Rules) -> Rules {
    Rules { faults, ..full }
}

#[test]
fn model_lease() {
    holds("lease", lease, Rules::plain(), lease_bounds());
}

#[test]
fn model_release() {
    let short = without(Faults::default(), release_bounds());
    holds("release", release, short, release_bounds());
}

#[test]
fn model_configuration() {
    let short = without(
        Faults {
            amnesias: 1,
            ..Faults::default()
        },
        configuration_bounds(),
    );
    holds(
        "configuration",
        configuration,
        short,
        configuration_bounds(),
    );
}

#[test]
fn model_tokens_dns() {
    let short = without(Faults::default(), dns_bounds());
    holds("tokens, DNS", tokens, short, dns_bounds());
}

#[test]
fn model_tokens_database() {
    let short = without(Faults::default(), database_bounds());
    holds("tokens, database", tokens, short, database_bounds());
}

#[test]
fn variant_of_the_lease() {
    every_one_is_found(lease_variants());
}

#[test]
fn variant_of_the_release() {
    every_one_is_found(release_variants());
}

#[test]
fn variant_of_the_configuration() {
    every_one_is_found(configuration_variants());
}

#[test]
fn variant_of_the_tokens() {
    every_one_is_found(tokens_variants());
}
