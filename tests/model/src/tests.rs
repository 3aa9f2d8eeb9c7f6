use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::*;

/// Two go wrong in each run; three are for a longer look.
fn mishaps() -> u8 {
    let text = std::env::var_os("RELAY_MODEL_MISHAPS").and_then(|text| text.into_string().ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// The model, right or with one mistake in it.
struct Ledger(Option<Bug>);

impl Model for Ledger {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(mishaps())]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(steps, self.0);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(world.after(step, self.0))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1, I5: the books add up", |_, world: &World| world.adds_up()),
            Property::always("I2: holds add up", |_, world: &World| world.holds_add_up()),
            Property::always("I3: above the floor", |model: &Self, world: &World| {
                world.stays_above_the_floor(model.0)
            }),
            Property::always("I4: settled once", |model: &Self, world: &World| {
                world.settles_once(model.0)
            }),
            Property::always("I6: charged what it costs", |model: &Self, world: &World| {
                world.charges_what_it_costs(model.0)
            }),
            Property::always("I7: served means held", |model: &Self, world: &World| {
                world.serves_what_is_held(model.0)
            }),
            Property::always("I8: finished means billed", |model: &Self, world: &World| {
                world.ends_what_is_settled(model.0)
            }),
            Property::always("I8: told means billed", |model: &Self, world: &World| {
                world.books_what_it_tells(model.0)
            }),
            Property::always("I9: the dead hold nothing", |model: &Self, world: &World| {
                world.releases_the_dead(model.0)
            }),
            Property::always("a replaced hub rests", |_, world: &World| world.rests_when_told()),
            Property::always("I11: posted once", |model: &Self, world: &World| {
                world.posts_once(model.0)
            }),
        ]
    }
}

#[test]
fn no_order_of_steps_breaks_the_books() {
    let checker = Ledger(None).checker().threads(2);
    let checked = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (states, depth) = (checked.unique_state_count(), checked.max_depth());
    eprintln!("{states} states, up to {depth} steps");
    checked.assert_properties();
    assert!(checked.is_done() && states > 100_000, "all of it was looked at");
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let checked = Ledger(Some(bug))
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        match checked.discoveries().into_iter().next() {
            Some((property, path)) => {
                let steps = path.into_actions();
                eprintln!("{bug:?}: after {} steps not `{property}`", steps.len());
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// A right model that cannot get anywhere would break nothing either.
#[test]
fn whatever_should_be_possible_is_reached() {
    struct Reach;
    impl Model for Reach {
        type State = World;
        type Action = Step;
        fn init_states(&self) -> Vec<World> {
            vec![World::new(mishaps())]
        }
        fn actions(&self, world: &World, steps: &mut Vec<Step>) {
            world.steps(steps, None);
        }
        fn next_state(&self, world: &World, step: Step) -> Option<World> {
            Some(world.after(step, None))
        }
        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::sometimes("both calls end", |_, world: &World| {
                    world.calls.iter().all(|table| table.has_ended)
                }),
                Property::sometimes("a charge above its hold is cut to what is left", |_, world: &World| {
                    world.calls[1].charged == Some(2)
                }),
                Property::sometimes("a charge above its hold takes more", |_, world: &World| {
                    world.calls[1].charged == Some(3)
                }),
                Property::sometimes("a slot is used again", |_, world: &World| {
                    world.disk.slots.first().is_some_and(|page| page.seq > 1)
                }),
                Property::sometimes("a served call is recovered", |_, world: &World| {
                    world.calls[0].is_served && world.disk.rows.contains(&(0, 0))
                }),
                Property::sometimes("a replaced hub is told", |_, world: &World| {
                    world.hubs.iter().any(|hub| hub.is_over)
                }),
                Property::sometimes("a call is forgiven", |_, world: &World| {
                    world.calls.iter().any(|table| table.is_forgiven)
                }),
                Property::sometimes("what was in doubt is told", |_, world: &World| {
                    world
                        .hubs
                        .iter()
                        .any(|hub| hub.doubtful.is_none() && hub.committed.is_some() && hub.available.is_none())
                }),
            ]
        }
    }
    Reach.checker().spawn_bfs().join().assert_properties();
}
