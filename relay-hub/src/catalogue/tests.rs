use relay_shared::tasks::Tasks;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    directory::{OnAbort, Stop, Tenant},
    identity::By,
    ids::{KeyId, TenantId},
    money::{Price, Rates},
    store::{
        prices::{self, PriceRow},
        testing::TestHub,
    },
};

fn caller() -> Caller {
    let tenant = Tenant {
        id: TenantId::random(),
        name: "acme".into(),
        is_suspended: false,
        on_abort: OnAbort::Cut,
        region: None,
        may_repin: false,
        stop: Stop::new(&CancellationToken::new()),
    };
    Caller {
        tenant: Arc::new(tenant),
        by: By::Key(KeyId::random()),
        project: None,
        granted: None,
    }
}

fn line(model: &str, output: &str) -> PriceRow {
    let unit = |text: &str| text.parse().unwrap();
    let price = Price::plain(0, Rates::plain(unit("1"), unit("0.1"), unit("1"), unit(output)));
    let (context, max_output) = (Tokens::new(400_000), Tokens::new(128_000));
    PriceRow {
        model: model.into(),
        price,
        context,
        max_output,
        source: "test".into(),
        at_ms: 0,
    }
}

#[tokio::test]
async fn an_alias_is_priced_as_the_model_it_stands_for() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let aliases = BTreeMap::from([
        ("fast".to_owned(), "gpt-5".to_owned()),
        ("lost".to_owned(), "nowhere".to_owned()),
    ]);
    let catalogue = Catalogue::new(directory, aliases);
    prices::import(&hub.store, &[line("gpt-5", "10")], 1).await.unwrap();
    let model = catalogue.model(&caller(), "fast").await.unwrap();
    assert_eq!((model.name.as_str(), model.upstream.as_str()), ("fast", "gpt-5"));
    assert_eq!(model.offer.price.standard.base.output.to_string(), "10.00");
    let names: Vec<_> = catalogue
        .models(&caller())
        .into_iter()
        .map(|model| model.name)
        .collect();
    assert_eq!(names, ["fast", "gpt-5"]);
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_by_name() {
    let hub = TestHub::new().await;
    let tasks = Tasks::new();
    let directory = Directory::watch(&hub.store, hub.sealer.clone(), &tasks).await.unwrap();
    let refused = Catalogue::new(directory, BTreeMap::new())
        .model(&caller(), "gpt-9\r\nx")
        .await
        .unwrap_err();
    assert_eq!(refused.public.code, Code::ModelNotFound);
    assert!(refused.public.message.contains("`gpt-9x`"));
    assert!(refused.public.hint.is_some());
}

#[tokio::test]
async fn a_price_that_changes_gets_a_version_of_its_own() {
    let hub = TestHub::new().await;
    prices::import(&hub.store, &[line("a", "1"), line("b", "1")], 1)
        .await
        .unwrap();
    let done = prices::import(&hub.store, &[line("a", "2"), line("b", "1")], 2)
        .await
        .unwrap();
    assert_eq!(
        (done.version, done.changed.as_slice(), done.unchanged),
        (2, &["a".to_owned()][..], 1)
    );
    let versions: Vec<_> = prices::list(&hub.store)
        .await
        .unwrap()
        .iter()
        .map(|row| row.price.version)
        .collect();
    assert_eq!(versions, [2, 1]);
}
