use std::sync::{Arc, atomic::Ordering};

use tokio::sync::mpsc;

use crate::{
    config::PasswordHash,
    gateways::admin_ui::{
        Admin, Hub, Shared, Throttle,
        login::Login,
        watch::{News, Place},
    },
    hub::packet::Packet,
    protocol::{client_id::ClientId, names::RoomName},
};

/// An Admin UI in which one piece of news may wait.
fn narrow(detailed: bool) -> (Admin, mpsc::Receiver<News>) {
    let (news, told) = mpsc::channel(1);
    let (arrivals, _) = mpsc::unbounded_channel();
    let password = PasswordHash::parse(&bcrypt::hash("x", 4).unwrap()).unwrap();
    let shared = Arc::new(Shared { detailed, ..Shared::default() });
    let login = Login::new("admin".into(), password);
    (Admin(Arc::new(Hub { login, shared, news, arrivals, shown: Throttle::default() })), told)
}

fn place() -> Place {
    Place { namespace: "/".into(), id: ClientId::make() }
}

#[test]
fn news_that_is_lost_is_made_good_and_an_event_is_not() {
    let (admin, mut told) = narrow(true);
    let overflown = || admin.0.shared.overflown.load(Ordering::Acquire);
    let event = || {
        let packet = Packet::of("notice", &());
        admin.tell(|now| News::Sent { at: place(), packet, now });
    };
    event();
    event();
    assert!(!overflown(), "an event that is not shown makes no picture wrong");
    admin.tell(|now| News::Joined(place(), RoomName::parse("kitchen").unwrap(), now));
    assert!(overflown());
    assert!(told.try_recv().unwrap().is_event());
    assert!(told.try_recv().is_err());
}

#[test]
fn in_production_there_is_no_news() {
    let (admin, mut told) = narrow(false);
    admin.tell(|now| News::Joined(place(), RoomName::parse("kitchen").unwrap(), now));
    assert!(!admin.shows_one_more());
    assert!(told.try_recv().is_err());
}
