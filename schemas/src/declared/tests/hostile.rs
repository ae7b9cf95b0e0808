//! Hostile documents are refused within bounded time and memory, with a place.

use super::*;

fn codes(bytes: &[u8]) -> Vec<&'static str> {
    let checked = check(&[SourceFile::new("a.yaml", bytes)]);
    assert!(checked.desired.is_none());
    checked.errors().map(|problem| problem.code).collect()
}

#[test]
fn an_alias_bomb_is_counted_out_not_blown_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
    }
    assert_eq!(codes(text.as_bytes()), ["file-size"]);
}

#[test]
fn anchors_within_anchors_count_too() {
    let open: String = (0..60).map(|level| format!("&a{level} [")).collect();
    let text = format!("{open}{}{}", "x, ".repeat(50_000), "]".repeat(60));
    assert_eq!(codes(text.as_bytes()), ["file-size"]);
}

#[test]
fn deep_nesting_is_refused() {
    assert_eq!(codes("[".repeat(5_000).as_bytes()), ["yaml"]);
    let block: String = (0..500)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    assert!(!codes(block.as_bytes()).is_empty());
    let mixed = format!("{}{}", "- ".repeat(60), "[".repeat(60));
    assert!(!codes(mixed.as_bytes()).is_empty());
}

#[test]
fn an_alias_can_not_deepen_beyond_the_limit() {
    let half = format!("{}x{}", "[".repeat(40), "]".repeat(40));
    let text = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(40), "]".repeat(40));
    assert_eq!(codes(text.as_bytes()), ["depth"]);
}

#[test]
fn an_alias_of_what_it_stands_in_is_refused() {
    assert_eq!(codes(b"a: &a [*a]\n"), ["alias"]);
}

#[test]
fn a_hundred_thousand_keys_are_read_and_their_errors_capped() {
    let keys: String = (0..100_000).map(|n| format!("  key{n}: x\n")).collect();
    let text =
        format!("apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: a}}\nspec:\n{keys}");
    let checked = check(&[SourceFile::new("a.yaml", text)]);
    assert!(checked.problems.len() <= problem::PROBLEMS_MAX);
    let more = |problem: &Problem| {
        problem
            .message
            .contains("99900 more keys that aren't known")
    };
    assert!(checked.problems.iter().any(more));
}

#[test]
fn a_hundred_thousand_duplicate_keys_are_found_in_bounded_time() {
    let keys: String = (0..100_000)
        .map(|n| format!("key{}: x\n", n % 50_000))
        .collect();
    let checked = check(&[SourceFile::new("a.yaml", keys)]);
    assert_eq!(checked.problems.len(), problem::PROBLEMS_MAX);
}

#[test]
fn a_template_times_a_list_is_bounded() {
    let roles: String = (0..60_000)
        .map(|n| format!("      - $(code)-{n}\n"))
        .collect();
    let sites: String = (0..200)
        .map(|n| format!("    - {{code: '{n:03}'}}\n"))
        .collect();
    let text = format!(
        "apiVersion: stead/v1\nkind: SiteSet\nmetadata: {{name: a}}\nspec:\n  template:\n    \
         spec:\n{roles}  sites:\n{sites}"
    );
    assert!(codes(text.as_bytes()).contains(&"too-large"));
}

#[test]
fn defaults_times_sites_are_bounded() {
    let keys: String = (0..60_000).map(|n| format!("      k{n}: x\n")).collect();
    let mut text = format!(
        "apiVersion: stead/v1\nkind: Hierarchy\nmetadata: {{name: a}}\nspec:\n  defaults:\n    \
         all:\n{keys}"
    );
    for n in 0..200 {
        text += &format!(
            "---\napiVersion: stead/v1\nkind: Site\nmetadata: {{name: '{n:03}'}}\nspec: {{type: primary}}\n"
        );
    }
    assert!(codes(text.as_bytes()).contains(&"too-large"));
}

#[test]
fn a_value_does_not_grow_without_bound() {
    let long = "x".repeat(2_000);
    let many = "$(a)".repeat(1_000);
    let text = format!(
        "apiVersion: stead/v1\nkind: SiteSet\nmetadata: {{name: a}}\nspec: {{template: {{spec: \
         {{type: '{many}'}}}}, values: {{a: {long}}}, sites: [{{code: P01}}]}}\n"
    );
    assert!(codes(text.as_bytes()).contains(&"placeholder"));
}

#[test]
fn a_huge_file_is_refused_unread() {
    let text = vec![b'#'; yaml::FILE_BYTES_MAX + 1];
    assert_eq!(codes(&text), ["file-size"]);
}

#[test]
fn other_encodings_are_refused_at_their_first_byte() {
    let checked = check(&[SourceFile::new("a.yaml", b"a: b\nname: caf\xE9\n".to_vec())]);
    let problem = &checked.problems[0];
    assert_eq!(
        problem.to_string(),
        "a.yaml:2:10: error: the file is not UTF-8 from here on: save it as UTF-8"
    );
    assert_eq!(codes(b"\xFF\xFEa\0:\0 \0b\0"), ["encoding"]);
    assert_eq!(codes(b"\xFE\xFF\0a\0:\0 \0b"), ["encoding"]);
}

#[test]
fn merge_keys_tags_and_unknown_anchors_are_refused_at_their_place() {
    let errors: Vec<String> = check_text(
        "apiVersion: stead/v1
kind: Hierarchy
metadata: {name: contoso}
spec:
  <<: {}
  guards: !guards {}
  reconcilers: *nobody
",
    )
    .errors()
    .map(|problem| {
        format!(
            "{}:{} {}",
            problem.place.line, problem.place.column, problem.message
        )
    })
    .collect();
    assert_eq!(
        errors,
        [
            "5:3 merge keys (`<<`) are not read",
            "6:11 YAML tags are not read: leave `!guards` out",
            "7:16 `*nobody` names no anchor: nothing above in this document has `&nobody`",
        ]
    );
}

#[test]
fn foreign_yaml_is_an_error_not_skipped() {
    // H37: skipping a typo would remove a site.
    let problem = &check_text("apiVersion: v1\nkind: ConfigMap\n").problems[0];
    assert_eq!(
        problem.to_string(),
        "a.yaml:1:13: error: this YAML document doesn't begin with `apiVersion: stead/v1`\n  \
         hint: files that aren't Stead's are left out by `.steadignore`"
    );
}
