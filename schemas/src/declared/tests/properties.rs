//! What holds for every input.

use proptest::prelude::*;

use super::topologies::desired;
use super::*;
use crate::declared::render::yaml;

/// Pieces that YAML and topologies are made of, so that random text gets deep.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("apiVersion: stead/v1\n".to_owned()),
        Just("kind: Site\n".to_owned()),
        Just("kind: SiteSet\n".to_owned()),
        Just("kind: Hierarchy\n".to_owned()),
        Just("metadata: {name: P01}\n".to_owned()),
        Just("spec:\n  type: primary\n".to_owned()),
        Just("  template: {spec: {servers: {$(code): 1}}}\n  sites: [{code: P01}]\n".to_owned()),
        Just("  roles: {managementPoint: {servers: [a, a]}}\n".to_owned()),
        Just("  siteServer: {active: a, passive: [b, c]}\n".to_owned()),
        Just("---\n".to_owned()),
        Just("&a [*a, ".to_owned()),
        Just("{a: 'b', \"c\": |\n  d\n".to_owned()),
        "[ -~\n]{0,12}",
        "\\PC{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let checked = check(&[SourceFile::new("a.yaml", bytes)]);
        prop_assert_eq!(checked.desired.is_none(), checked.errors().next().is_some());
    }

    #[test]
    fn no_text_makes_it_panic_and_places_are_in_the_file(pieces in proptest::collection::vec(piece(), 0..20)) {
        let text = pieces.concat();
        let checked = check(&[SourceFile::new("a.yaml", text.clone())]);
        prop_assert_eq!(checked.desired.is_none(), checked.errors().next().is_some());
        let lines = u32::try_from(text.split('\n').count()).unwrap();
        for problem in &checked.problems {
            prop_assert!((1..=lines + 1).contains(&problem.place.line), "{}", problem);
            prop_assert!(problem.bytes.0 <= problem.bytes.1, "{}", problem);
            prop_assert!(problem.bytes.1 as usize <= text.len(), "{}", problem);
            prop_assert!(text.is_char_boundary(problem.bytes.0 as usize), "{}", problem);
        }
    }

    #[test]
    fn what_is_rendered_reads_back_the_same(value in tree()) {
        let text = yaml(&node(&value), None);
        let mut findings = Findings::default();
        let parsed = yaml::parse(&SourceFile::new("a", text.clone()), 0, &mut findings);
        prop_assert!(!findings.any_error(), "{}", text);
        prop_assert_eq!(parsed.documents.len(), 1, "{}", text);
        prop_assert_eq!(parsed.documents[0].value(), value, "{}", text);
    }
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "\\PC{0,12}".prop_map(serde_json::Value::from),
        "[yYnNoO0-9.:eE_~=<#&*!|>'\"%@` \\t\\n-]{0,8}".prop_map(serde_json::Value::from),
    ];
    let inner = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("\\PC{1,8}", inner, 0..5)
                .prop_map(|map| { serde_json::Value::Object(map.into_iter().collect()) }),
        ]
    });
    proptest::collection::btree_map("[a-z]{1,8}", inner, 1..5)
        .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
}

/// A tree as the reader would make it.
fn node(value: &serde_json::Value) -> Node {
    use crate::declared::tree::{Key, Kind, Meaning, Scalar};
    let spot = Spot::default();
    let scalar = |text: String, meaning| {
        Kind::Scalar(Scalar {
            text: text.into(),
            meaning,
            plain: false,
        })
    };
    let kind = match value {
        serde_json::Value::Null => scalar(String::new(), Meaning::Null),
        serde_json::Value::Bool(b) => scalar(b.to_string(), Meaning::Bool(*b)),
        serde_json::Value::Number(n) => scalar(n.to_string(), Meaning::Int(n.as_i64().unwrap())),
        serde_json::Value::String(text) => scalar(text.clone(), Meaning::Text),
        serde_json::Value::Array(items) => Kind::Seq(items.iter().map(node).collect()),
        serde_json::Value::Object(map) => Kind::Map(
            map.iter()
                .map(|(key, value)| {
                    (
                        Key {
                            text: key.as_str().into(),
                            spot,
                        },
                        node(value),
                    )
                })
                .collect(),
        ),
    };
    Node { kind, spot }
}

#[test]
fn the_order_of_files_does_not_matter() {
    let files = testdata("contoso");
    let checked = check(&files);
    for at in 0..files.len() {
        let mut other = files.clone();
        other.rotate_left(at);
        other.swap(0, 2);
        let other = check(&other);
        assert_eq!(other.problems, checked.problems);
        assert!(other.desired == checked.desired);
    }
}

#[test]
fn moving_a_site_between_set_and_file_changes_nothing_but_its_place() {
    let files = testdata("contoso");
    let before = desired(check(&files));
    let checked = check(&files);
    let code: SiteCode = "S07".parse().unwrap();
    let rendered = render::render(&checked, &code, false).unwrap();
    let mut moved: Vec<SourceFile> = files
        .into_iter()
        .map(|file| {
            let text = String::from_utf8(file.bytes).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.iter().position(|line| line.contains("code: S07"));
            let text = match from {
                Some(at) => [&lines[..at], &lines[at + 2..]].concat().join("\n"),
                None => text,
            };
            SourceFile::new(file.path, text)
        })
        .collect();
    moved.push(SourceFile::new("sites/S07.yaml", rendered));
    let after = desired(check(&moved));
    assert_eq!(before.sites.len(), after.sites.len());
    let without_places = |site: &crate::desired::SiteDesired| {
        let mut site = site.clone();
        let nowhere = crate::desired::Place::default();
        site.place = nowhere.clone();
        site.servers
            .values_mut()
            .for_each(|server| server.place = nowhere.clone());
        site.groups
            .values_mut()
            .for_each(|group| group.place = nowhere.clone());
        if let Some(site_server) = &mut site.site_server {
            site_server.place = nowhere.clone();
        }
        site
    };
    assert_eq!(
        without_places(&before.sites[&code]),
        without_places(&after.sites[&code])
    );
}
