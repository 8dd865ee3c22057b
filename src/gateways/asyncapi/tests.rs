//! The document names what there is, and nothing else.

use std::collections::HashSet;

use super::{document, schemas};
use crate::commands::{FEATURES, client_events, server_events};

#[test]
fn the_document_is_as_it_was() {
    insta::assert_snapshot!("asyncapi", format!("{:#}", document()));
}

#[test]
fn no_name_stands_for_two_things() {
    let mut names = HashSet::new();
    assert!(client_events().all(|event| names.insert(event.name)));
    names.clear();
    assert!(server_events().all(|event| names.insert(event.name)));
    names.clear();
    let schemas = FEATURES.iter().flat_map(|feature| (feature.schemas)());
    for (name, _) in schemas {
        assert!(names.insert(name), "{name}");
    }
}

#[test]
fn every_schema_is_used_and_every_reference_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    for target in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(target).is_some(), "{target}");
    }
    for name in schemas().keys() {
        assert!(text.contains(&format!("/schemas/{name}\"")), "{name} is not used");
    }
}
