//! The document names what there is, and nothing else.

use std::collections::BTreeSet;

use super::{
    document,
    events::{CLIENT, SERVER},
    schemas,
};
use crate::protocol::event_names::{client as events, server_events};

#[test]
fn the_document_is_as_it_was() {
    insta::assert_snapshot!("asyncapi", format!("{:#}", document()));
}

#[test]
fn it_names_every_event_and_no_other() {
    let documented = CLIENT.iter().map(|event| event.name).collect::<BTreeSet<_>>();
    assert_eq!(documented, events::ALL.into_iter().collect());
    let documented = SERVER.iter().map(|event| event.name).collect::<BTreeSet<_>>();
    assert_eq!(documented, server_events().collect());
    // As many as rows: none twice.
    assert_eq!((events::ALL.len(), server_events().count()), (CLIENT.len(), SERVER.len()));
}

#[test]
fn every_schema_is_used_and_every_reference_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    for target in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(target).is_some(), "{target}");
    }
    for name in schemas::all().keys() {
        assert!(text.contains(&format!("/schemas/{name}\"")), "{name} is not used");
    }
}
