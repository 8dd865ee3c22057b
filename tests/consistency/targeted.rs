//! Schedules for the faults that have been: each brings about what random ones seldom do.

use crate::{
    run,
    schedule::{Fault, Kind, Plan, Step, Topology, Visit},
};

async fn holds(plan: Plan) {
    let outcome = run::run(&plan).await;
    println!("{}", run::summary(&plan, &outcome));
    assert!(outcome.violations.is_empty(), "{}", run::report(&plan, &outcome));
}

fn plan(topology: Topology, clients: Vec<Vec<Step>>, faults: Vec<(usize, Fault)>) -> Plan {
    Plan {
        seed: 0,
        topology,
        settings: Vec::new(),
        expires: false,
        clients,
        mailboxes: Vec::new(),
        faults,
    }
}

const fn say(count: u64, kind: Kind) -> Step {
    Step::Send { room: 0, count, kind }
}

/// A member joined when the room had a history, nothing was said, the history was lost: it gets the new one
/// from its first message on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_member_gets_a_new_epoch_from_its_beginning() {
    let writes =
        vec![say(20, Kind::Message), Step::Rest(400), Step::Rest(400), say(50, Kind::Message)];
    let idle = vec![Step::Rest(200), Step::Join(0), Step::Rest(600)];
    holds(plan(Topology::Redis, vec![writes, idle], vec![(3, Fault::EmptyRedis)])).await;
}

/// The same where a room is forgotten, as nothing was said for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_member_of_a_forgotten_room_gets_the_next_history_from_its_beginning() {
    let writes = vec![
        say(20, Kind::Message),
        Step::Rest(200),
        Step::Rest(2500),
        Step::Rest(4500),
        say(50, Kind::Message),
    ];
    let idle = vec![Step::Rest(100), Step::Join(0), Step::Rest(5000)];
    let mut plan = plan(Topology::Embedded, vec![writes, idle], Vec::new());
    plan.settings = vec![("HISTORY_TTL", "1s")];
    plan.expires = true;
    holds(plan).await;
}

/// A user that comes, takes nothing and is gone gets its queue the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_stays_for_a_user_that_took_nothing() {
    for topology in [Topology::Embedded, Topology::Redis] {
        let writes = vec![Step::Private { mailbox: 0, count: 50 }, Step::Rest(2000)];
        let mut plan = plan(topology, vec![writes], Vec::new());
        plan.mailboxes = vec![vec![Visit::Away(1000), Visit::Deaf(1500)]];
        holds(plan).await;
    }
}

/// Members that are left out of messages stay so when those are read from the log, as the connection by which
/// they should have come was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_left_out_stays_so_when_a_gap_is_filled() {
    let talks = |client: usize| {
        let mut steps = vec![Step::Join(0)];
        for _ in 0..12 {
            steps.push(say(40, Kind::ToOthers));
            steps.push(say(5, Kind::Broadcast((client + 1) % 3)));
        }
        steps
    };
    let faults = (1..=12).map(|n| (n * 6, Fault::KillListening)).collect();
    holds(plan(Topology::Cluster, (0..3).map(talks).collect(), faults)).await;
}

/// Who joins while others send at full speed is told where it stands, and not where the room once stood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_under_full_traffic_is_told_where_it_stands() {
    for topology in [Topology::Embedded, Topology::Cluster] {
        let mut clients = vec![vec![say(400, Kind::Message); 6]; 3];
        for _ in 0..3 {
            let mut steps = Vec::new();
            for _ in 0..40 {
                steps.extend([Step::Join(0), Step::Vanish, Step::Join(0), Step::Leave(0)]);
            }
            clients.push(steps);
        }
        holds(plan(topology, clients, Vec::new())).await;
    }
}
