//! Watching and logs: changes at once, a heartbeat otherwise, bounded output.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use site_agent::processes;
use stead_schemas::wire::{Health, WatchEvent};

use crate::lab::{Lab, one, shell, web};

const OPEN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_watch_begins_with_a_report_and_goes_on_with_heartbeats() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    lab.until_healthy("web").await;
    let mut watch = lab
        .reconciler
        .stream_lines("/v1/watch", OPEN, Duration::from_secs(3))
        .await
        .unwrap();
    let first: WatchEvent = watch.next_json().await.unwrap().unwrap();
    let WatchEvent::Report(report) = first else {
        panic!("{first:?}");
    };
    for _ in 0..2 {
        let next: WatchEvent = watch.next_json().await.unwrap().unwrap();
        let WatchEvent::Heartbeat { sequence, .. } = next else {
            panic!("{next:?}");
        };
        assert_eq!(sequence, report.sequence, "nothing changed");
    }
}

#[tokio::test]
async fn an_end_is_seen_before_the_next_heartbeat() {
    let mut lab = Lab::running().await;
    lab.assign(one("web", web())).await;
    let pid = lab.until_healthy("web").await.pid.unwrap();
    let mut watch = lab
        .reconciler
        .stream_lines("/v1/watch", OPEN, Duration::from_secs(3))
        .await
        .unwrap();
    drop(watch.next().await.unwrap());
    // Right behind a heartbeat: what comes next is the change, or another second passes.
    loop {
        let event: WatchEvent = watch.next_json().await.unwrap().unwrap();
        if matches!(event, WatchEvent::Heartbeat { .. }) {
            break;
        }
    }
    processes::signal(pid, Signal::KILL).unwrap();
    // A check that was slow at that moment is a change too; a heartbeat would be too late.
    let instance = loop {
        let event: WatchEvent = watch.next_json().await.unwrap().unwrap();
        let WatchEvent::Report(report) = event else {
            panic!("a heartbeat came first: {event:?}");
        };
        let instance = report.instances[&"web".parse().unwrap()].clone();
        if instance.pid != Some(pid) {
            break instance;
        }
    };
    assert_ne!(instance.health, Health::Healthy);
}

#[tokio::test]
async fn h18_logs_are_bounded_and_readable() {
    let mut lab = Lab::running().await;
    let noisy = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); \
                 echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done; \
                 echo finished; sleep 1000";
    lab.assign(one("noisy", shell(noisy))).await;
    let end = Instant::now() + crate::lab::DEADLINE;
    loop {
        let last = lines(&lab, "/v1/logs/noisy?lines=1").await;
        if last
            .first()
            .is_some_and(|line| line.ends_with("out finished"))
        {
            break;
        }
        assert!(Instant::now() < end, "{last:?}");
        crate::lab::pause().await;
    }
    let kept: u64 = std::fs::read_dir(lab.state().join("instances/noisy/output"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept < 5 * 256 * 1024 + 64 * 1024, "{kept} bytes");
    assert!(kept > 3 * 256 * 1024, "and not thrown away");
    assert_eq!(lines(&lab, "/v1/logs/noisy?lines=5").await.len(), 5);
}

#[tokio::test]
async fn following_a_log_shows_what_comes() {
    let mut lab = Lab::running().await;
    let slow =
        "echo first; while [ ! -e $STEAD_DATA/go ]; do sleep 0.01; done; echo second; sleep 1000";
    lab.assign(one("slow", shell(slow))).await;
    lab.until_healthy("slow").await;
    let mut log = lab
        .reconciler
        .stream_lines("/v1/logs/slow?follow=1", OPEN, Duration::from_secs(5))
        .await
        .unwrap();
    let mut seen = Vec::new();
    std::fs::write(lab.state().join("data/slow/go"), "").unwrap();
    while !seen.iter().any(|line: &String| line.ends_with("second")) {
        let line = log.next().await.unwrap().expect("the stream goes on");
        seen.push(String::from_utf8(line.to_vec()).unwrap());
        assert!(seen.len() < 1_000);
    }
}

#[tokio::test]
async fn unknown_logs_and_bad_questions_are_answered_so() {
    let lab = Lab::running().await;
    for (path, code) in [
        ("/v1/logs/none", 404),
        ("/v1/logs/..%2f..%2fetc", 400),
        ("/v1/logs/none?lines=x", 400),
        ("/v1/nothing", 404),
    ] {
        let answer = lab.reconciler.get_json::<String>(path, OPEN).await;
        match answer {
            Err(stead_wire::peer::CallError::Status { code: got, .. }) => {
                assert_eq!(got, code, "{path}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

async fn lines(lab: &Lab, path: &str) -> Vec<String> {
    let mut stream = lab
        .reconciler
        .stream_lines(path, OPEN, Duration::from_secs(5))
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(line) = stream.next().await.unwrap() {
        found.push(String::from_utf8(line.to_vec()).unwrap());
    }
    found
}
