//! Any requests, failures, crashes and interruptions, in any order.

use proptest::prelude::*;

use super::super::*;
use super::world::{Sim, World};

#[derive(Debug, Clone)]
enum Act {
    Switch(u8, bool),
    Start(u8),
    Stop(bool),
    CarryOut(prop::sample::Index, bool),
    Crash(usize),
    RemoveIdle,
    LoseEngine,
    Found(Option<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..4u8, any::<bool>()).prop_map(|(model, force)| Act::Switch(model, force)),
        1 => (0..4u8).prop_map(Act::Start),
        1 => any::<bool>().prop_map(Act::Stop),
        12 => (any::<prop::sample::Index>(), prop::bool::weighted(0.85))
            .prop_map(|(index, well)| Act::CarryOut(index, well)),
        1 => (0..6usize).prop_map(Act::Crash),
        1 => Just(Act::RemoveIdle),
        1 => Just(Act::LoseEngine),
        1 => prop::option::of(0..4u8).prop_map(Act::Found),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_every_caller_is_answered_and_one_server_runs_at_most(acts in prop::collection::vec(act(), 0..60)) {
        let models = ["a", "b", "c", "d"];
        let mut world = World::default();
        for act in acts {
            match act {
                Act::Switch(model, force) => {
                    world.request(OperationKind::Switch, Some(models[usize::from(model)]), force);
                }
                Act::Start(model) => {
                    world.request(OperationKind::Start, Some(models[usize::from(model)]), false);
                }
                Act::Stop(force) => {
                    world.request(OperationKind::Stop, None, force);
                }
                Act::CarryOut(index, well) if !world.pending.is_empty() => {
                    let index = index.index(world.pending.len());
                    world.carry_out(index, well);
                }
                Act::Crash(before) => {
                    let stage = world.lifecycle.live().map(|live| live.stage.clone());
                    let runs = |stage| matches!(
                        stage,
                        Stage::Restoring(_) | Stage::Ready(_) | Stage::Draining(_) | Stage::Saving(_)
                    );
                    if stage.is_some_and(runs) {
                        world.crash(before);
                    }
                }
                Act::LoseEngine => world.lose_engine(),
                Act::Found(wanted) => world.found(wanted.map(|model| models[usize::from(model)])),
                Act::RemoveIdle => world.engine.retain(|_, (_, sim)| *sim != Sim::Exited),
                Act::CarryOut(..) => {}
            }
        }
        world.settle();
        let last = world.switch("a");
        world.settle();
        prop_assert!(world.ended[&last].is_ok(), "{:?}", world.ended[&last]);
        prop_assert_eq!(world.lifecycle.model().unwrap().as_str(), "a");
        prop_assert_eq!(world.wanted.as_ref().unwrap().as_str(), "a");
        // What nothing was known of is cleared away at the next look.
        world.found(None);
        world.settle();
        for instance in world.lifecycle.idle_instances() {
            world.engine.entry(instance.id.clone()).or_insert((instance, Sim::Exited));
        }
        world.check_at_rest();
    }
}
