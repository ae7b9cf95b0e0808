//! The generated reference is up to date.

use crate::stead::top;

fn compare(file: &str, made: &str) {
    let path = top().join("docs/reference").join(file);
    if std::env::var_os("STEAD_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        std::fs::write(&path, made).expect("a file");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "{} is stale: STEAD_UPDATE=1 cargo nextest run -p stead --test cli reference",
        path.display()
    );
}

#[test]
fn reference_of_the_command_line_is_fresh() {
    compare("cli.md", &stead::commands::reference::command_line());
}

#[test]
fn reference_of_the_yaml_is_fresh() {
    compare("yaml.md", &stead::commands::reference::yaml());
}
