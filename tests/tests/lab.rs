//! The README's first command as a new user runs it: `stead lab` converges from nothing, heals, and
//! leaves nothing behind (must-show 1).

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Signal;
use system_tests::processes::{
    become_subreaper, cgroups, descendants, kill_descendants, program, signal, start, wait_until,
};

fn stead(folder: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(program("stead"))
        .args(args)
        .env("STEAD_API", folder.join("lab/stead.sock"))
        .current_dir(folder)
        .output()
        .expect("stead starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn status(folder: &Path) -> Option<serde_json::Value> {
    let (_, out) = stead(folder, &["status", "-o", "json"]);
    serde_json::from_str(&out).ok()
}

fn is_converged(folder: &Path) -> bool {
    let Some(status) = status(folder) else {
        return false;
    };
    let sites = status["sites"].as_array().cloned().unwrap_or_default();
    sites.len() == 3 && sites.iter().all(|site| site["state"] == "converged")
}

fn wait_converged(folder: &Path, what: &str) {
    wait_until(
        what,
        Duration::from_secs(90),
        || is_converged(folder),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
}

fn pid_of(folder: &Path, name: &str) -> Option<u64> {
    let status = status(folder)?;
    let sites = status["sites"].as_array()?.clone();
    let instances = sites
        .iter()
        .flat_map(|site| site["instances"].as_array().into_iter().flatten());
    instances
        .filter(|i| i["name"] == name)
        .find_map(|instance| instance["pid"].as_u64())
}

fn end(lab: &mut Child, folder: &Path) {
    signal(lab.id(), Signal::INT);
    wait_until(
        "the lab ends",
        Duration::from_secs(30),
        || matches!(lab.try_wait(), Ok(Some(_))),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
}

/// The names directly below the folders where a program could leave something behind.
fn surroundings() -> Vec<String> {
    let places = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
    let mut names = Vec::new();
    for place in places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.path().display().to_string();
            if name.contains("stead") && !name.contains("stead-test-") {
                names.push(name);
            }
        }
    }
    names.sort();
    names
}

#[test]
fn the_lab_converges_heals_and_leaves_nothing_behind() {
    become_subreaper();
    let before = surroundings();
    let folder = tempfile::Builder::new()
        .prefix("stead-test-lab-")
        .tempdir()
        .expect("a folder");
    let folder = folder.path();
    let mut command = Command::new(program("stead"));
    command.args(["lab", "--dir", "lab"]).current_dir(folder);
    let mut lab = start(&mut command, &folder.join("lab.log"));
    wait_converged(folder, "the lab converges from nothing");

    let agents = descendants().len();
    assert!(agents >= 12, "a dozen agents and more: {agents}");
    let name = "P01/managementPoint@p01-f1";
    let pid = pid_of(folder, name).expect("it runs");
    signal(u32::try_from(pid).expect("a pid"), Signal::KILL);
    wait_until(
        "the instance heals",
        Duration::from_secs(60),
        || pid_of(folder, name).is_some_and(|now| now != pid),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );

    let (code, _) = stead(folder, &["lab", "kill", "p01-f2", "--dir", "lab"]);
    assert_eq!(code, 0);
    wait_until(
        "the power cut is seen",
        Duration::from_secs(60),
        || !is_converged(folder),
        || fs::read_to_string(folder.join("lab.log")).unwrap_or_default(),
    );
    let (code, _) = stead(folder, &["lab", "heal", "p01-f2", "--dir", "lab"]);
    assert_eq!(code, 0);
    wait_converged(folder, "the server comes back");

    let groups = cgroups(&descendants());
    end(&mut lab, folder);
    let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "cgroups left behind: {left:?}");
    let left: Vec<String> = descendants()
        .iter()
        .map(|pid| system_tests::processes::command_line(*pid))
        .collect();
    kill_descendants();
    assert!(left.is_empty(), "processes left behind: {left:?}");
    assert_eq!(surroundings(), before, "nothing is left outside its folder");
}
