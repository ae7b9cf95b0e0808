//! Leases, takeovers and switchovers as text (tasks 4 and 5). From the API's views alone.

use stead_schemas::api::{
    LeaseView, PassiveView, SwitchoverState, SwitchoverView, TakeoverView, VoterView,
};
use stead_schemas::lease::{Takeover, TakeoverCause};
use stead_schemas::names::{ServerName, SiteCode};
use stead_schemas::time::{DurationMs, WallMs};

use super::table::{Cell, Table, one_line};
use super::{Palette, Style, when};

/// The lease of one site: who is active, who votes, what is parked, how it came about.
#[must_use]
pub fn lease(
    palette: Palette,
    site: &SiteCode,
    lease: &LeaseView,
    passive: &[PassiveView],
    now: WallMs,
) -> String {
    let mut table = Table::bare(2);
    let mut row = |key: &str, style: Style, text: String| {
        table.row([Cell::new(Style::Faint, key), Cell::new(style, text)]);
    };
    let style = match (&lease.holder, lease.holder_heard) {
        (Some(_), true) => Style::Good,
        (Some(_), false) => Style::Warn,
        (None, _) => Style::Bad,
    };
    row("active", style, holder(lease, now));
    for one in passive {
        let style = match one.state.as_str() {
            "ready" => Style::Good,
            "lost" => Style::Bad,
            _ => Style::Warn,
        };
        row("standby", style, format!("{}: {}", one.server, one.state));
    }
    let (style, text) = voters(lease);
    row("voters", style, text);
    if !lease.automatic {
        let text = "manual: passives don't take over by themselves";
        row("failover", Style::Warn, text.to_owned());
    }
    if let Some(request) = &lease.request {
        let text = format!("{request} was asked for and is not active yet");
        row("request", Style::Warn, text);
    }
    if let Some(text) = parked(site, lease, now) {
        row("parked", Style::Note, text);
    }
    if let Some(last) = &lease.last_failover {
        let text = format!(
            "{}; stead history {site} --last failover",
            in_a_line(last, now)
        );
        row("last failover", Style::Plain, text);
    }
    format!(
        "\n{}\n{}",
        palette.paint(Style::Head, "LEASE"),
        table.render(palette, "  ")
    )
}

fn holder(lease: &LeaseView, now: WallMs) -> String {
    let Some(holder) = &lease.holder else {
        return format!("not known: nobody who is heard says; term {}", lease.term);
    };
    let heard = if lease.holder_heard {
        ""
    } else {
        " (not heard itself; others say so)"
    };
    let of_term = |view: &&TakeoverView| view.takeover.term == lease.term;
    let since = lease
        .last
        .as_ref()
        .filter(of_term)
        .map_or_else(String::new, |view| {
            format!(" since {}", when::clock(view.takeover.won_at, now))
        });
    format!("{holder}, term {}{since}{heard}", lease.term)
}

fn voters(lease: &LeaseView) -> (Style, String) {
    let all: Vec<&VoterView> = lease.in_force().collect();
    let missing: Vec<&str> = all
        .iter()
        .filter(|voter| !voter.heard || voter.silent)
        .map(|voter| voter.name.as_str())
        .collect();
    let heard = all.iter().filter(|voter| voter.heard).count();
    let mut text = format!("{heard} of {} heard", all.len());
    if !missing.is_empty() {
        text += &format!("; silent: {}", missing.join(", "));
    }
    let coming: Vec<&str> = lease
        .voters
        .iter()
        .filter(|voter| !voter.votes)
        .map(|voter| voter.name.as_str())
        .collect();
    if !coming.is_empty() {
        text += &format!("; to vote next: {}", coming.join(", "));
    }
    let style = if missing.is_empty() && !all.is_empty() {
        Style::Plain
    } else {
        Style::Warn
    };
    (style, text)
}

/// What git says and is not honoured now, with the way back.
#[must_use]
pub fn parked(site: &SiteCode, lease: &LeaseView, now: WallMs) -> Option<String> {
    let parked = lease.parked.as_ref()?;
    let since = match (parked.since, parked.cause) {
        (Some(since), Some(cause)) => {
            format!(" since the {} {}", noun(cause), when::clock(since, now))
        }
        _ => String::new(),
    };
    Some(format!(
        "git says {}; {}{since}; stead failback {site}",
        parked.declared, parked.holder
    ))
}

const fn noun(cause: TakeoverCause) -> &'static str {
    match cause {
        TakeoverCause::Again => "restart",
        TakeoverCause::Failover => "failover",
        TakeoverCause::First => "beginning",
        TakeoverCause::Handover => "switchover",
        TakeoverCause::Promoted => "promotion",
    }
}

/// `failover 03:12:07 p01-a -> p01-b, term 7, 3.906 s without writes`.
#[must_use]
pub fn in_a_line(view: &TakeoverView, now: WallMs) -> String {
    let Takeover {
        term,
        from,
        cause,
        won_at,
        ..
    } = &view.takeover;
    let from = from
        .as_ref()
        .map_or_else(String::new, |from| format!("{from} -> "));
    let length = view.interrupted().map_or_else(String::new, |length| {
        format!(", {} without writes", seconds(length))
    });
    format!(
        "{} {} {from}{}, term {term}{length}",
        noun(*cause),
        when::clock(*won_at, now),
        view.server
    )
}

/// How a lease was taken up, a moment a line, to the millisecond (task 5).
#[must_use]
pub fn timeline(palette: Palette, view: &TakeoverView, now: WallMs) -> String {
    let taken = &view.takeover;
    let server = &view.server;
    let from = taken.from.as_ref();
    let mut moments = Vec::new();
    if let (Some(at), Some(from)) = (taken.heard_at, from) {
        moments.push((at, format!("{from} last heard to go on")));
    }
    let granted: Vec<&str> = taken.granted_by.iter().map(ServerName::as_str).collect();
    let why = match (taken.cause, from) {
        (TakeoverCause::Again, _) => "it held the lease before".to_owned(),
        (TakeoverCause::Failover, Some(from)) => format!("{from} was silent"),
        (TakeoverCause::Failover, None) => "the holder was silent".to_owned(),
        (TakeoverCause::First, _) => "the site never had an active".to_owned(),
        (TakeoverCause::Handover, Some(from)) => format!("{from} handed over"),
        (TakeoverCause::Handover, None) => "it was handed over".to_owned(),
        (TakeoverCause::Promoted, _) => "a person promoted it, a majority being lost".to_owned(),
    };
    let asked = view.asked.as_ref().map_or_else(String::new, |asked| {
        let reason = asked.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        format!(", asked for by {}{reason}", asked.by)
    });
    let won = format!(
        "{server} takes up term {}, granted by {}   cause: {why}{asked}",
        taken.term,
        granted.join(", ")
    );
    moments.push((taken.won_at, won));
    if let Some(at) = taken.first_write_at {
        let length = view.interrupted().map_or_else(String::new, |length| {
            format!("   {} without writes", seconds(length))
        });
        moments.push((
            at,
            format!("first accepted write, term {}{length}", taken.term),
        ));
    }
    if let Some(at) = taken.published_at {
        moments.push((at, "the alias seen at every DNS server".to_owned()));
    }
    let mut table = Table::bare(2);
    for (at, text) in moments {
        let at = Cell::new(Style::Faint, when::clock_ms(at, now));
        table.row([at, one_line(&text).into()]);
    }
    table.render(palette, "")
}

/// What a switchover will interrupt, before it is done.
#[must_use]
pub fn preview(view: &SwitchoverView) -> String {
    format!(
        "1 switch over  {} siteServer {} -> {} (ready)   no writes while it is handed over, most often well below a second",
        view.site, view.from, view.to
    )
}

/// What a switchover came to.
#[must_use]
pub fn outcome(view: &SwitchoverView, now: WallMs) -> String {
    match (&view.state, &view.taken) {
        (SwitchoverState::NothingToDo, _) => format!("nothing to do: {} is active", view.to),
        (SwitchoverState::Planned, _) => preview(view),
        (SwitchoverState::Done, Some(taken)) => done(taken, now),
        (SwitchoverState::Done | SwitchoverState::UnderWay, _) => format!(
            "{} began to hand over to {}; it was not seen to work yet",
            view.from, view.to
        ),
    }
}

/// `term 8 at fab-b, first write 14:10:02.301 (interrupted 0.187 s)`.
fn done(view: &TakeoverView, now: WallMs) -> String {
    let at_most = view
        .asked
        .as_ref()
        .and_then(|asked| asked.interrupted_at_most);
    let interrupted = match (view.interrupted(), at_most) {
        (Some(length), _) => format!(" (interrupted {})", seconds(length)),
        (None, Some(length)) => format!(" (interrupted at most {})", seconds(length)),
        (None, None) => String::new(),
    };
    let written = view.takeover.first_write_at.map_or_else(
        || "no write yet".to_owned(),
        |at| format!("first write {}", when::clock_ms(at, now)),
    );
    format!(
        "term {} at {}, {written}{interrupted}",
        view.takeover.term, view.server
    )
}

fn seconds(length: DurationMs) -> String {
    format!("{:.3} s", length.std().as_secs_f64())
}
