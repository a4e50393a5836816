//! The catalogue: every contract ever served here.

use sinew::{Catalogue, CatalogueChange};

use super::*;

#[tokio::test]
async fn a_contract_is_announced_and_outlives_its_service() {
    let stage = Stage::start().await;
    let catalogue = Catalogue::open(stage.caller.bus()).await.unwrap();
    assert_eq!(catalogue.get("desk").await.unwrap(), None);
    let service = desk((), repeat).on("mailer", async |_: Noted| Ok::<_, Problem>(()), |group| group);
    let described = service.describe();
    let running = stage.start_service(service).await;
    assert_eq!(catalogue.get("desk").await.unwrap().as_ref(), Some(&described));
    assert_eq!(described.operations[0].subject, "svc.desk.echo");
    assert_eq!(described.operations[0].errors.len(), 2);
    assert_eq!(described.groups[0].event.subject, "evt.desk.noted");
    running.drain().await;
    stage.bus.close().await;
    assert_eq!(catalogue.get("desk").await.unwrap(), Some(described));
}

#[tokio::test]
async fn a_watch_tells_of_services_that_come_change_and_go() {
    let stage = Stage::start().await;
    let catalogue = Catalogue::open(stage.caller.bus()).await.unwrap();
    let mut watch = catalogue.watch();
    let _desk = stage.serve(repeat).await;
    assert_eq!(served(watch.next().await).version, "1.2.3");
    let mut changed = desk((), repeat).describe();
    changed.version = "2.0.0".to_owned();
    catalogue.announce(&changed).await.unwrap();
    assert_eq!(served(watch.next().await), changed);
    let kv = stage.caller.bus().kv("SINEW_CATALOGUE").await.unwrap();
    let entry = kv.get("desk").await.unwrap().unwrap();
    kv.delete("desk", entry.revision).await.unwrap();
    let change = watch.next().await;
    assert!(matches!(&change, Some(CatalogueChange::Removed(name)) if name == "desk"), "{change:?}");
    assert_eq!(catalogue.get("desk").await.unwrap(), None);
}

#[tokio::test]
async fn the_same_contract_is_not_announced_again() {
    let stage = Stage::start().await;
    let _first = stage.serve(repeat).await;
    let before = stage.bus.stream_state("KV_SINEW_CATALOGUE").await.unwrap().last_sequence;
    let _second = stage.serve(repeat).await;
    assert_eq!(stage.bus.stream_state("KV_SINEW_CATALOGUE").await.unwrap().last_sequence, before);
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_passed_over() {
    let stage = Stage::start().await;
    let catalogue = Catalogue::open(stage.caller.bus()).await.unwrap();
    let mut watch = catalogue.watch();
    stage.bus.kv("SINEW_CATALOGUE").await.unwrap().put("spoilt", "{".into()).await.unwrap();
    let _desk = stage.serve(repeat).await;
    assert_eq!(served(watch.next().await).name, "desk");
}

fn served(change: Option<CatalogueChange>) -> wire::ServiceDescriptor {
    match change {
        Some(CatalogueChange::Served(descriptor)) => *descriptor,
        other => panic!("a contract is served, not {other:?}"),
    }
}
