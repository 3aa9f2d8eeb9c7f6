//! What belongs to an account stays there.

use super::*;

#[tokio::test]
async fn a_conversation_outlives_the_hub_and_nothing_of_it_can_be_read() {
    let bench = Bench::new(5, 2).await;
    let tenant = bench.tenant(0);
    let mut homes = HashMap::new();
    for thread in 0..50 {
        let thread = format!("canary-{thread}");
        let taken = bench.call(&tenant, Some(&thread)).unwrap().unwrap();
        served(&taken);
        homes.insert(thread, taken.account.id.clone());
    }
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1, "they are spread");
    bench.tasks.shutdown(Duration::from_secs(5)).await;
    let written = routes::pins(&bench.hub.store, 0, 1_000).await.unwrap();
    assert_eq!(written.len(), 50);

    // Two more accounts: without the pins they would take their share.
    for name in ["late", "later"] {
        add_account(&bench.hub, name).await;
    }
    let after = bench.again().await;
    for (thread, home) in &homes {
        let taken = after.call(&tenant, Some(thread)).unwrap().unwrap();
        assert_eq!((&taken.account.id, taken.choice), (home, Choice::Pinned));
    }
    after.tasks.shutdown(Duration::from_secs(5)).await;
    let database = std::fs::read(after.hub.data.database()).unwrap();
    let log = std::fs::read(after.hub.data.database().with_extension("sqlite-wal")).unwrap_or_default();
    for bytes in [database, log] {
        assert!(
            memchr::memmem::find(&bytes, b"canary").is_none(),
            "a client's words are in the database"
        );
    }
}

#[tokio::test]
async fn a_stored_response_is_asked_of_its_own_account_or_not_at_all() {
    let bench = Bench::new(4, 1).await;
    tenants::set_repin(&bench.hub.store, &bench.tenants[0], "allow")
        .await
        .unwrap();
    bench.directory.refresh().await;
    let tenant = bench.tenant(0);
    let none = HeaderMap::new();
    let first = bench.call(&tenant, Some("begins")).unwrap().unwrap();
    served(&first);
    first.trail().unwrap().stored("resp_1");
    let home = first.account.id.clone();
    let previous = |id| Traces {
        tenant: &tenant,
        wire: Wire::Responses,
        model: None,
        headers: &none,
        session: None,
        previous: Some(id),
        body: &[],
    };
    let next = bench.routing.chosen(&previous("resp_1"), true).await.unwrap();
    assert_eq!((&next.account.id, next.choice), (&home, Choice::Bound));
    // Another tenant's word for it leads nowhere.
    bench
        .share(
            &home,
            Change {
                users: Some(Users::Exclusive(None)),
                ..Change::default()
            },
        )
        .await;
    let refused = bench.routing.chosen(&previous("resp_1"), true).await.err().unwrap();
    assert_eq!(refused.public.code, Code::ConversationGone);
    let elsewhere = bench.routing.chosen(&previous("resp_unknown"), true).await.unwrap();
    assert_ne!(elsewhere.account.id, home);
}

#[tokio::test]
async fn a_turn_s_state_goes_to_the_account_that_gave_it_and_to_no_other() {
    let bench = Bench::new(4, 2).await;
    let tenant = bench.tenant(0);
    let state = HeaderMap::from_iter([(names::TURN_STATE, HeaderValue::from_static("opaque"))]);
    let first = bench.call(&tenant, Some("thread")).unwrap().unwrap();
    first.answered(StatusCode::OK, &state);
    let mut asked = thread_id("thread");
    asked.extend(state.clone());
    let again = |tenant: Arc<Tenant>, asked: HeaderMap| {
        let routing = bench.routing.clone();
        async move {
            let asked = Traces {
                tenant: &tenant,
                wire: Wire::Responses,
                model: None,
                headers: &asked,
                session: None,
                previous: None,
                body: &[],
            };
            let taken = routing.chosen(&asked, true).await.unwrap();
            let mut head = asked.headers.clone();
            taken.clean(&mut head);
            (taken.account.id.clone(), head.contains_key(&names::TURN_STATE))
        }
    };
    assert_eq!(
        again(tenant.clone(), asked.clone()).await,
        (first.account.id.clone(), true)
    );
    // Alone it leads to its account; of another tenant it means nothing, and is not sent.
    assert_eq!(again(tenant, state.clone()).await, (first.account.id.clone(), true));
    assert!(!again(bench.tenant(1), state).await.1);
}

#[tokio::test]
async fn a_turn_s_state_outlives_its_account_and_goes_to_no_other() {
    let bench = Bench::new(2, 1).await;
    tenants::set_repin(&bench.hub.store, &bench.tenants[0], "allow")
        .await
        .unwrap();
    bench.directory.refresh().await;
    let tenant = bench.tenant(0);
    let state = HeaderMap::from_iter([(names::TURN_STATE, HeaderValue::from_static("opaque"))]);
    let first = bench.call(&tenant, None).unwrap().unwrap();
    first.answered(StatusCode::OK, &state);
    assert!(
        accounts::remove(&bench.hub.store, first.account.id.as_str())
            .await
            .unwrap()
    );
    bench.directory.refresh().await;
    let left = bench.routing.chosen(&traces(&tenant, &state), true).await.unwrap();
    assert_ne!(left.account.id, first.account.id);
    let mut head = state.clone();
    left.clean(&mut head);
    assert!(head.is_empty(), "the last account that is left did not give it");
}

/// What a vendor hides, as it made it and as a request sends it back.
struct Reasoning(String);

impl Reasoning {
    fn new(name: &str) -> Self {
        Self(format!(
            r#"{{"input":[{{"type":"reasoning","encrypted_content":"gAAA-{name}"}}],"store":false}}"#
        ))
    }

    fn made_by(&self, taken: &Taken) {
        let found = Hidden::sent_back(Wire::Responses, self.0.as_bytes(), 1);
        taken.trail().unwrap().hid(&found);
    }

    fn sent_by<'a>(&'a self, tenant: &'a Arc<Tenant>, headers: &'a HeaderMap) -> Traces<'a> {
        Traces {
            body: self.0.as_bytes(),
            ..traces(tenant, headers)
        }
    }
}

#[tokio::test]
async fn reasoning_goes_back_to_the_account_that_made_it_where_nothing_else_is_named() {
    let bench = Bench::new(6, 2).await;
    let (tenant, none) = (bench.tenant(0), HeaderMap::new());
    let home = bench.call(&tenant, None).unwrap().unwrap().account.id.clone();
    // Of conversations that are at others.
    let mut made = Vec::new();
    for thread in 0..24 {
        let thread = thread.to_string();
        let taken = bench.call(&tenant, Some(&thread)).unwrap().unwrap();
        served(&taken);
        let reasoning = Reasoning::new(&thread);
        reasoning.made_by(&taken);
        made.push((reasoning, taken.account.id.clone()));
    }
    assert!(made.iter().any(|(_, account)| *account != home));
    for (reasoning, account) in &made {
        let asked = reasoning.sent_by(&tenant, &none);
        let taken = bench.routing.chosen(&asked, true).await.unwrap();
        assert_eq!((&taken.account.id, taken.choice), (account, Choice::Reasoning));
        assert!(!taken.may_move(), "nobody else can read it");
    }
    let (reasoning, maker) = made.iter().find(|(_, account)| *account != home).unwrap();
    // A conversation that has its account keeps to it; one that has none goes where its reasoning is.
    let known = thread_id("0");
    let taken = bench
        .routing
        .chosen(&reasoning.sent_by(&tenant, &known), true)
        .await
        .unwrap();
    assert_eq!(taken.choice, Choice::Pinned);
    let forked = thread_id("forked");
    let taken = bench
        .routing
        .chosen(&reasoning.sent_by(&tenant, &forked), true)
        .await
        .unwrap();
    assert_eq!((&taken.account.id, taken.choice), (maker, Choice::Reasoning));
    served(&taken);
    let taken = bench.call(&tenant, Some("forked")).unwrap().unwrap();
    assert_eq!((&taken.account.id, taken.choice), (maker, Choice::Pinned));
    // Another tenant's word for it leads nowhere.
    let other = bench.tenant(1);
    let taken = bench
        .routing
        .chosen(&reasoning.sent_by(&other, &none), true)
        .await
        .unwrap();
    assert_eq!(taken.choice, Choice::Tenant);
    let unknown = Reasoning::new("unknown");
    let taken = bench
        .routing
        .chosen(&unknown.sent_by(&tenant, &none), true)
        .await
        .unwrap();
    assert_eq!((&taken.account.id, taken.choice), (&home, Choice::Tenant));
}

#[tokio::test]
async fn reasoning_of_an_account_that_is_gone_is_refused_or_goes_on_elsewhere_over_restarts() {
    let bench = Bench::new(2, 2).await;
    tenants::set_repin(&bench.hub.store, &bench.tenants[1], "allow")
        .await
        .unwrap();
    bench.directory.refresh().await;
    let none = HeaderMap::new();
    let mut made = Vec::new();
    for at in 0..2 {
        let taken = bench.call(&bench.tenant(at), Some("begins")).unwrap().unwrap();
        let reasoning = Reasoning::new(&at.to_string());
        reasoning.made_by(&taken);
        made.push((reasoning, taken.account.id.clone()));
    }
    let bench = bench.again().await;
    for (at, (reasoning, account)) in made.iter().enumerate() {
        let tenant = bench.tenant(at);
        let taken = bench
            .routing
            .chosen(&reasoning.sent_by(&tenant, &none), true)
            .await
            .unwrap();
        assert_eq!((&taken.account.id, taken.choice), (account, Choice::Reasoning));
    }
    // Both accounts become somebody else's, one after the other: a pool of one is left, which did not make it.
    for (at, (reasoning, account)) in made.iter().enumerate() {
        let nobody = Change {
            users: Some(Users::Exclusive(None)),
            ..Change::default()
        };
        bench.share(account, nobody).await;
        let tenant = bench.tenant(at);
        let asked = reasoning.sent_by(&tenant, &none);
        let chosen = bench.routing.chosen(&asked, true).await;
        if at == 0 {
            assert_eq!(chosen.err().unwrap().public.code, Code::ConversationGone);
        } else {
            let taken = chosen.unwrap();
            assert_eq!(taken.choice, Choice::Repinned);
            served(&taken);
            // It belongs to that one from then on.
            let again = bench.routing.chosen(&asked, true).await.unwrap();
            assert_eq!(
                (&again.account.id, again.choice),
                (&taken.account.id, Choice::Reasoning)
            );
        }
        let everybody = Change {
            users: Some(Users::All),
            ..Change::default()
        };
        bench.share(account, everybody).await;
    }
}

#[tokio::test]
async fn of_an_answer_in_a_named_conversation_the_last_reasoning_is_kept_and_else_all_of_it() {
    let bench = Bench::new(3, 1).await;
    let (tenant, none) = (bench.tenant(0), HeaderMap::new());
    for (thread, known) in [(Some("named"), [false, true]), (None, [true, true])] {
        let taken = bench.call(&tenant, thread).unwrap().unwrap();
        served(&taken);
        let both = ["first", "last"].map(|which| Reasoning::new(&format!("{which} of {thread:?}")));
        let found = both
            .each_ref()
            .map(|one| Hidden::sent_back(Wire::Responses, one.0.as_bytes(), 1));
        taken.trail().unwrap().hid(&found.concat());
        for (one, is_known) in both.iter().zip(known) {
            let again = bench.routing.chosen(&one.sent_by(&tenant, &none), true).await.unwrap();
            assert_eq!(again.choice == Choice::Reasoning, is_known, "{thread:?}");
        }
    }
}

#[tokio::test]
async fn a_hub_with_one_account_looks_for_no_reasoning() {
    let bench = Bench::new(1, 1).await;
    let (tenant, none) = (bench.tenant(0), HeaderMap::new());
    let reasoning = Reasoning::new("any");
    let taken = bench.routing.plain(&reasoning.sent_by(&tenant, &none)).unwrap();
    assert!(!taken.remembers_reasoning());
    let named = bench.call(&tenant, Some("thread")).unwrap().unwrap();
    assert!(!named.remembers_reasoning(), "there is no other account to go to");
}
