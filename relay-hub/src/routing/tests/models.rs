//! Accounts that serve some models and no others.

use super::*;

fn models(names: &[&str]) -> Change {
    Change {
        models: Some(Some(names.iter().filter_map(|name| ModelName::parse(name)).collect())),
        ..Change::default()
    }
}

#[tokio::test]
async fn a_call_goes_to_an_account_that_serves_its_model_and_its_conversation_keeps_the_other_one() {
    let bench = Bench::new(2, 1).await;
    let tenant = bench.tenant(0);
    let [one, two] = [&bench.accounts[0], &bench.accounts[1]];
    bench.share(one, models(&["gpt-*"])).await;
    bench.share(two, models(&["deepseek-chat", "deepseek-r*"])).await;
    let headers = thread_id("thread");
    let asked = |model| Traces {
        tenant: &tenant,
        wire: Wire::Responses,
        model: Some(model),
        headers: &headers,
        session: None,
        previous: None,
        body: &[],
    };
    let call = async |model| {
        let taken = bench.routing.chosen(&asked(model), true).await?;
        served(&taken);
        Ok::<_, Refused>((taken.account.id.clone(), taken.choice))
    };
    assert_eq!(call("gpt-6-sol").await.ok().unwrap(), (one.clone(), Choice::Only));
    // Asked for by the same conversation, as a client does for the names of its threads.
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Only));
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Pinned));
    assert_eq!(call("gpt-6-luna").await.ok().unwrap(), (one.clone(), Choice::Pinned));
    let refused = call("qwen-max").await.err().unwrap();
    assert_eq!(refused.public.code, Code::ModelNotFound);
    assert!(bench.routing.serves(&tenant.id, Wire::Chat, "deepseek-chat"));
    assert!(!bench.routing.serves(&tenant.id, Wire::Chat, "qwen-max"));
    // What one model finds is not what the next one does.
    assert!(bench.routing.serves(&tenant.id, Wire::Chat, "gpt-6-sol"));
    // Whatever its vendor has again: the one whose operator names the model goes before it.
    let any = Change {
        models: Some(None),
        ..Change::default()
    };
    bench.share(one, any).await;
    assert_eq!(call("qwen-max").await.ok().unwrap().0, *one);
    assert_eq!(call("deepseek-r2").await.ok().unwrap(), (two.clone(), Choice::Pinned));
}

#[tokio::test]
async fn a_model_keeps_its_account_whatever_else_of_the_directory_changes() {
    const MODELS: [&str; 4] = ["gpt-6", "claude-5", "gemini-4", "deepseek-3"];
    let bench = Bench::new(MODELS.len(), 1).await;
    let tenant = bench.tenant(0);
    for (account, model) in bench.accounts.iter().zip(MODELS) {
        bench.share(account, models(&[model])).await;
    }
    for round in 1..=16 {
        for (account, model) in bench.accounts.iter().zip(MODELS) {
            let need = Need {
                wire: Wire::Chat,
                model: Some(model),
            };
            let fleet = bench.routing.fleet();
            let pool = fleet.pool(&tenant.id, need);
            let near: Vec<_> = fleet.near(&pool).map(|seat| &seat.account.id).collect();
            assert_eq!(near, [account], "{model} in round {round}");
        }
        let revived = Change {
            revived_ms: Some(round),
            ..Change::default()
        };
        bench.share(&bench.accounts[0], revived).await;
    }
}
