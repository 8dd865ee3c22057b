//! Lets a plan happen, and tells what was wrong with it.

use std::{
    collections::HashMap,
    fmt::Write,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    actor::{Actor, mailbox},
    checker::{Violation, check},
    history::{Event, History, Record, Terms},
    schedule::{Plan, ROOMS, Topology},
    world::World,
};

/// How long members may take in the end to get all that is there.
const CATCH_UP: Duration = Duration::from_secs(20);
/// How long a queue may stay with a node that is dead: its claim ends by itself.
const QUEUE_PATIENCE: Duration = Duration::from_secs(40);
/// How many records around a violation are shown.
const CONTEXT: usize = 12;
/// How many violations of each rule are shown.
const SHOWN: usize = 3;

/// What a run has come to.
pub struct Outcome {
    pub records: Vec<Record>,
    pub violations: Vec<Violation>,
    pub took: Duration,
}

/// Lets it happen and checks what was recorded.
pub async fn run(plan: &Plan) -> Outcome {
    let begun = Instant::now();
    let terms =
        Terms { expires: plan.expires, refusals_are_doubtful: plan.topology != Topology::Embedded };
    let history = Arc::new(History::begin(terms));
    let mut world = World::start(plan, &history).await;
    let actor = |number, user| Actor::new(number, user, &world.reach, &history);
    let count = plan.clients.len();
    let mut actors = Vec::new();
    for (number, steps) in plan.clients.iter().enumerate() {
        let actor = actor(number, format!("user-{number}"));
        actors.push(tokio::spawn(actor.act(steps.clone())));
    }
    let mut visitors = Vec::new();
    for (number, visits) in plan.mailboxes.iter().enumerate() {
        let visitor = actor(count + number, mailbox(number));
        visitors.push(tokio::spawn(visitor.visit(visits.clone())));
    }
    let mut auditor = actor(count + plan.mailboxes.len(), "auditor".to_owned());
    for (after, fault) in &plan.faults {
        while world.reach.steps.load(Ordering::Relaxed) < *after
            && !actors.iter().all(JoinHandle::is_finished)
        {
            sleep(Duration::from_millis(2)).await;
        }
        world.suffer(*fault).await;
    }
    let mut actors = ended(actors).await;
    let mut visitors = ended(visitors).await;
    world.ready().await;
    join_all(actors.iter_mut().map(Actor::come_back)).await;
    history.note(None, Event::Quiet);
    let mut last = Vec::new();
    for room in 0..ROOMS.len() {
        last.push(auditor.insist(room).await);
    }
    let deadline = Instant::now() + CATCH_UP;
    join_all(actors.iter_mut().map(|actor| actor.settle(&last, deadline))).await;
    auditor.audit().await;
    join_all(visitors.iter_mut().map(|visitor| visitor.collect(QUEUE_PATIENCE))).await;
    world.end().await;
    // The readers of the connections have it, too.
    let records = history.look(<[Record]>::to_vec);
    let violations = check(&records);
    Outcome { records, violations, took: begun.elapsed() }
}

async fn ended(tasks: Vec<JoinHandle<Actor>>) -> Vec<Actor> {
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

/// One line about a run.
pub fn summary(plan: &Plan, outcome: &Outcome) -> String {
    let count =
        |of: fn(&Event) -> bool| outcome.records.iter().filter(|record| of(&record.event)).count();
    format!(
        "seed {} {:?}: {} faults, {} connections, {} of {} messages acknowledged, {} received, \
         {} recoveries and {} refused ones, {} queued, {:.1} s: {}",
        plan.seed,
        plan.topology,
        plan.faults.len(),
        count(|event| matches!(event, Event::Connected { .. })),
        count(|event| matches!(event, Event::SendAnswered { answer: Ok(_), .. })),
        count(|event| matches!(event, Event::SendAsked { .. })),
        count(|event| matches!(event, Event::Received { .. })),
        count(
            |event| matches!(event, Event::JoinAnswered { answer: Ok(joined), .. } if joined.recovered == Some(true))
        ),
        count(
            |event| matches!(event, Event::JoinAnswered { answer: Ok(joined), .. } if joined.recovered == Some(false))
        ),
        count(|event| matches!(event, Event::PrivateAnswered { answer: Ok(true), .. })),
        outcome.took.as_secs_f64(),
        if outcome.violations.is_empty() {
            "all that may be".to_owned()
        } else {
            format!("{} VIOLATIONS", outcome.violations.len())
        },
    )
}

/// What is wrong, the part of the history that shows it, the plan, and how to repeat it.
pub fn report(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = format!("{}\n", summary(plan, outcome));
    let mut shown = HashMap::<_, usize>::new();
    for violation in &outcome.violations {
        let count = shown.entry(violation.rule).or_default();
        *count += 1;
        if *count > SHOWN {
            continue;
        }
        let _ = writeln!(text, "\n{violation}");
        for place in around(outcome, violation) {
            let mark = if violation.records.contains(&place) { ">" } else { " " };
            let _ = writeln!(text, "  {mark}{place:>6} {}", outcome.records[place]);
        }
    }
    let _ = writeln!(text, "\nHow often each rule was broken: {shown:?}\n\nThe plan:");
    for (client, steps) in plan.clients.iter().enumerate() {
        let _ = writeln!(text, "  client {client}: {steps:?}");
    }
    for (number, visits) in plan.mailboxes.iter().enumerate() {
        let _ = writeln!(text, "  mailbox {number}: {visits:?}");
    }
    let _ = writeln!(text, "  faults: {:?}", plan.faults);
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("consistency-{:?}-{}.txt", plan.topology, plan.seed));
    let mut all = String::new();
    for (place, record) in outcome.records.iter().enumerate() {
        let _ = writeln!(all, "{place:>6} {record}");
    }
    std::fs::write(&file, all).unwrap();
    let _ = writeln!(
        text,
        "\nThe whole history: {}\nTo repeat it: ROOMCAST_CONSISTENCY_SEED={} cargo nextest run --locked --test consistency",
        file.display(),
        plan.seed
    );
    text
}

/// The records that show a violation, and what its connection did and saw before the last of them.
fn around(outcome: &Outcome, violation: &Violation) -> Vec<usize> {
    let mut places = violation.records.clone();
    places.retain(|place| *place < outcome.records.len());
    if let Some(&last) = places.iter().max() {
        let who = outcome.records[last].who;
        let same = (0..last).rev().filter(|place| {
            let record = &outcome.records[*place];
            record.who == who || record.who.is_none()
        });
        places.extend(same.take(CONTEXT));
    }
    places.sort_unstable();
    places.dedup();
    places
}
