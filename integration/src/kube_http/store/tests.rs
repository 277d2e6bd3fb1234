// SPDX-License-Identifier: Apache-2.0

use super::super::resource::{NODES, SERVICES};
use super::*;

fn service(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "spec": {} })
}

fn scope(labels: &str) -> Scope {
    Scope { resource: &SERVICES, namespace: None, selector: Selector::parse(labels, "").unwrap() }
}

fn key(name: &str) -> Key {
    Key { resource: &SERVICES, namespace: "default".to_owned(), name: name.to_owned() }
}

fn put(store: &mut Store, object: Value) -> Value {
    store.put(&SERVICES, Some("default"), object).unwrap()
}

fn told(store: &Store, scope: &Scope, since: u64) -> Vec<(&'static str, String, String)> {
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    let events = store.since(scope, since).unwrap();
    events
        .iter()
        .map(|event| (event.kind, text(&event.object, "name"), text(&event.object, "resourceVersion")))
        .collect()
}

#[test]
fn every_change_has_a_revision_and_no_change_has_none() {
    let mut store = Store::default();
    let first = put(&mut store, service("a", json!({})));
    assert_eq!(first["metadata"]["resourceVersion"], "1");
    assert_eq!(first["kind"], "Service");
    assert_eq!(first["metadata"]["namespace"], "default");
    assert_eq!(put(&mut store, service("a", json!({}))), first);
    assert_eq!(store.revision(), 1);
    let second = put(&mut store, service("a", json!({ "app": "web" })));
    assert_eq!(second["metadata"]["resourceVersion"], "2");
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    store.delete(&key("a")).unwrap();
    assert_eq!(store.revision(), 3);
    assert_eq!(store.get(&key("a")).unwrap_err().code(), (404, "NotFound"));
    assert_eq!(store.delete(&key("a")).unwrap_err().code(), (404, "NotFound"));
}

#[test]
fn a_watcher_sees_objects_come_and_go_with_their_labels() {
    let mut store = Store::default();
    put(&mut store, service("a", json!({})));
    put(&mut store, service("b", json!({ "hidden": "" })));
    put(&mut store, service("b", json!({})));
    put(&mut store, service("a", json!({ "app": "web" })));
    put(&mut store, service("b", json!({ "hidden": "" })));
    store.delete(&key("b")).unwrap();
    store.delete(&key("a")).unwrap();
    let line = |kind, name: &str, revision: &str| (kind, name.to_owned(), revision.to_owned());
    let wanted = [
        line("ADDED", "a", "1"),
        line("ADDED", "b", "3"),
        line("MODIFIED", "a", "4"),
        line("DELETED", "b", "5"),
        line("DELETED", "a", "7"),
    ];
    assert_eq!(told(&store, &scope("!hidden"), 0), wanted);
    assert_eq!(told(&store, &scope("!hidden"), 4), wanted[3..]);
    assert_eq!(told(&store, &scope("!hidden"), 7), []);
}

#[test]
fn a_list_holds_what_is_selected_of_the_kind_and_namespace() {
    let mut store = Store::default();
    put(&mut store, service("a", json!({ "app": "web" })));
    put(&mut store, service("b", json!({})));
    store.put(&SERVICES, Some("kube-system"), service("c", json!({ "app": "dns" }))).unwrap();
    store.put(&NODES, None, json!({ "metadata": { "name": "n1", "labels": { "app": "" } } })).unwrap();
    let names = |scope: &Scope| -> Vec<String> {
        store.list(scope).iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&scope("")), ["a", "b", "c"]);
    assert_eq!(names(&scope("app")), ["a", "c"]);
    assert_eq!(names(&Scope { namespace: Some("default".to_owned()), ..scope("app") }), ["a"]);
}

#[test]
fn who_asks_for_forgotten_changes_has_to_list_anew() {
    let mut store = Store::default();
    for number in 0..REMEMBERED + 2 {
        put(&mut store, service("a", json!({ "number": number.to_string() })));
    }
    assert_eq!(store.since(&scope(""), 1).unwrap_err(), Refusal::Expired { asked: 1, oldest: 2 });
    assert_eq!(store.since(&scope(""), 2).unwrap().len(), REMEMBERED);
}

#[test]
fn what_does_not_fit_its_place_is_refused() {
    let mut store = Store::default();
    let bad = [
        json!([]),
        json!({ "spec": {} }),
        json!({ "metadata": {} }),
        json!({ "metadata": { "name": "a" }, "kind": "Node" }),
        json!({ "metadata": { "name": "a" }, "apiVersion": "v2" }),
        json!({ "metadata": { "name": "a", "namespace": "kube-system" } }),
    ];
    for object in bad {
        let refusal = store.create(&SERVICES, Some("default"), object.clone()).unwrap_err();
        assert_eq!(refusal.code(), (400, "BadRequest"), "{object}");
    }
    assert!(store.create(&SERVICES, None, service("a", json!({}))).is_err());
    store.create(&SERVICES, Some("default"), service("a", json!({}))).unwrap();
    let again = store.create(&SERVICES, Some("default"), service("a", json!({}))).unwrap_err();
    assert_eq!(again.code(), (409, "AlreadyExists"));
    assert_eq!(store.revision(), 1);
}

#[test]
fn a_patch_means_one_object_and_one_part_of_it() {
    let mut store = Store::default();
    let object = json!({ "metadata": { "name": "a" }, "spec": { "port": 1 }, "status": { "ready": false } });
    let first = put(&mut store, object);
    let both = Patch::merge(json!({ "spec": { "port": 2 }, "status": { "ready": true } }));
    let second = store.patch(&key("a"), Part::Object, &both).unwrap();
    assert_eq!((&second["spec"]["port"], &second["status"]["ready"]), (&json!(2), &json!(false)));
    let third = store.patch(&key("a"), Part::Status, &both).unwrap();
    assert_eq!((&third["status"]["ready"], &third["metadata"]["resourceVersion"]), (&json!(true), &json!("3")));
    assert_eq!(store.patch(&key("a"), Part::Status, &both).unwrap(), third, "what changes nothing has no revision");
    assert_eq!(store.revision(), 3);
    let of = |metadata: Value| Patch::merge(json!({ "metadata": metadata }));
    for stale in [json!({ "resourceVersion": "2" }), json!({ "uid": "another" })] {
        assert_eq!(store.patch(&key("a"), Part::Object, &of(stale)).unwrap_err().code(), (409, "Conflict"));
    }
    store.patch(&key("a"), Part::Object, &of(json!({ "uid": first["metadata"]["uid"] }))).unwrap();
    assert_eq!(store.patch(&key("b"), Part::Object, &both).unwrap_err().code(), (404, "NotFound"));
}

#[test]
fn after_compaction_watchers_have_to_list_anew() {
    let mut store = Store::default();
    put(&mut store, service("a", json!({})));
    store.compact();
    assert_eq!(store.since(&scope(""), 1).unwrap_err(), Refusal::Expired { asked: 1, oldest: 2 });
    assert_eq!(store.since(&scope(""), store.revision()).unwrap(), []);
}
