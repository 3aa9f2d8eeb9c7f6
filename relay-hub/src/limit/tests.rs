use proptest::prelude::*;
use relay_protocol::Endpoint;

use super::*;
use crate::ids::{AppPlan, DeviceId, KeyId, Project, TenantId};

fn scopes() -> [Scope; 9] {
    let (tenant, model) = (TenantId::random(), "gpt-5:odd/name".to_owned());
    [
        Scope::Global,
        Scope::Tenant(tenant.clone()),
        Scope::Key(KeyId::random()),
        Scope::Device(DeviceId::random()),
        Scope::Endpoint(Endpoint::ChatCompletions),
        Scope::Model(model.clone()),
        Scope::TenantModel(tenant.clone(), model),
        Scope::Project(tenant.clone(), Project::parse("web-1").unwrap()),
        Scope::Plan(tenant, AppPlan::parse("pro").unwrap()),
    ]
}

#[test]
fn every_scope_reads_back_as_it_is_shown() {
    for scope in scopes() {
        assert_eq!(Scope::parse(&scope.to_string()), Some(scope));
    }
    for odd in [
        "",
        "globe",
        "tenant:acme",
        "key:ten_0000000000000000",
        "endpoint:/v1/no",
        "tenant:/model:x",
    ] {
        assert_eq!(Scope::parse(odd), None, "{odd}");
    }
}

#[test]
fn every_limit_reads_back_as_it_is_shown() {
    let values = [
        (Limit::RequestsPerMinute, "60", "60"),
        (Limit::TokensPerMinute, " 90000 ", "90000"),
        (Limit::ConcurrentCalls, "4", "4"),
        (Limit::DailySpend, "10", "10.00"),
        (Limit::MonthlySpend, "0.000000001", "0.000000001"),
        (Limit::MaxOutput, "8192", "8192"),
        (Limit::BodyBytes, "1MiB", "1048576"),
        (Limit::AllowedModels, "gpt-5*, fast", "gpt-5*,fast"),
        (Limit::BlockedModels, "*", "*"),
        (Limit::AllowedAddresses, "10.0.0.0/8, ::1", "10.0.0.0/8,::1"),
        (Limit::AllowedCountries, "de, FR", "DE,FR"),
        (Limit::BlockedCountries, "Us", "US"),
        (Limit::Expires, "2030-12-31", "2030-12-31T00:00:00Z"),
    ];
    let mut rule = Rule::new(Scope::Tenant(TenantId::random()));
    for (limit, text, shown) in values {
        assert_eq!(rule.text(limit), None);
        rule.put(limit, text).unwrap();
        assert_eq!(rule.text(limit).as_deref(), Some(shown));
        assert_eq!(Limit::parse(&limit.name().replace('_', "-")), Some(limit));
    }
    let mut again = Rule::new(rule.scope.clone());
    for limit in Limit::ALL {
        again.put(limit, &rule.text(limit).unwrap()).unwrap();
    }
    assert_eq!(again, rule);
}

#[test]
fn what_cannot_be_used_is_told_with_what_helps() {
    let mut rule = Rule::new(Scope::Global);
    for (limit, text) in [
        (Limit::RequestsPerMinute, "0"),
        (Limit::TokensPerMinute, "-1"),
        (Limit::ConcurrentCalls, "many"),
        (Limit::DailySpend, "0"),
        (Limit::MonthlySpend, "1e3"),
        (Limit::BodyBytes, "1MB"),
        (Limit::AllowedModels, "a,,b"),
        (Limit::BlockedModels, "a*b"),
        (Limit::AllowedAddresses, "10.1.2.3/8"),
        (Limit::AllowedAddresses, "10.0.0.0/33"),
        (Limit::AllowedAddresses, "somewhere"),
        (Limit::Expires, "2030-12-31"),
    ] {
        let fault = rule.put(limit, text).unwrap_err();
        assert!(!fault.hint.is_empty(), "{limit:?}: {fault:?}");
    }
    assert_eq!(rule, Rule::new(Scope::Global));
    let mut of_model = Rule::new(Scope::Model("m".into()));
    assert!(of_model.put(Limit::AllowedModels, "m").is_err());
    assert!(of_model.put(Limit::MaxOutput, "5").is_ok());
}

#[test]
fn a_model_is_judged_by_both_its_names() {
    let mut rule = Rule::new(Scope::Global);
    assert!(rule.allows_model("fast", "gpt-5-mini"));
    rule.put(Limit::AllowedModels, "gpt-5*").unwrap();
    assert!(rule.allows_model("fast", "gpt-5-mini"));
    assert!(!rule.allows_model("gpt-4", "gpt-4"));
    rule.put(Limit::BlockedModels, "gpt-5-mini").unwrap();
    assert!(
        !rule.allows_model("fast", "gpt-5-mini"),
        "an alias does not get around a block"
    );
    assert!(rule.allows_model("gpt-5", "gpt-5"));
}

#[test]
fn an_address_is_its_own_in_any_clothes() {
    let mut rule = Rule::new(Scope::Global);
    rule.put(Limit::AllowedAddresses, "10.0.0.0/8,2001:db8::/32").unwrap();
    for (address, is_allowed) in [
        ("10.255.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("11.0.0.1", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("::1", false),
    ] {
        assert_eq!(rule.allows_address(address.parse().unwrap()), is_allowed, "{address}");
    }
    rule.put(Limit::AllowedAddresses, "0.0.0.0/0").unwrap();
    assert!(rule.allows_address("203.0.113.9".parse().unwrap()));
}

proptest! {
    #[test]
    fn a_network_is_what_its_bits_say(base: u32, other: u32, prefix in 0u8..=32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let text = format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(base & mask));
        let network = Network::parse(&text).unwrap();
        prop_assert_eq!(Network::parse(&network.to_string()), Some(network));
        let address = std::net::Ipv4Addr::from_bits(other);
        prop_assert_eq!(network.contains(address.into()), other & mask == base & mask);
    }
}
