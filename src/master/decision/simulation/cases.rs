//! Single cases, each in its world, where nothing happens but what is told.

use super::*;

/// Runs what is under way, and no accidents.
fn calm_world() -> World {
    let mut world = World::new(7);
    world.calm = true;
    world
}

#[test]
fn the_old_generation_drains_once_all_of_the_new_one_serve() {
    let mut world = calm_world();
    let asker = world.ask();
    world.happens(Event::Reload(Some(asker)));
    world.finish_what_is_under_way();
    let [old, new] = [0, 1];
    while world.serving == Some(old) {
        let mut of_old = world.processes.values().filter(|it| it.generation == old);
        assert!(of_old.all(|it| it.told.is_none()), "told too early");
        assert!(world.tell());
    }
    assert_eq!(world.serving, Some(new));
    let told = |it: &Process| if it.generation == old { Some(Command::Drain) } else { None };
    assert!(world.processes.values().all(|it| it.told == told(it)));
    assert!(!world.answered.contains_key(&asker), "the old workers may still accept");
    world.settle();
    assert!(matches!(world.answered[&asker], Outcome::Reloaded { .. }));
}

#[test]
fn a_worker_that_does_not_say_that_it_accepts_no_more_is_not_waited_for_long() {
    let mut world = calm_world();
    let asker = world.ask();
    world.happens(Event::Reload(Some(asker)));
    world.finish_what_is_under_way();
    while world.serving == Some(0) {
        assert!(world.tell());
    }
    world.now_ms = world.decider.due_ms().unwrap();
    world.happens(Event::Tick);
    assert!(matches!(world.answered[&asker], Outcome::Reloaded { .. }));
}

/// A reload that has come so far that its workers are forked.
fn starting() -> (World, Asker) {
    let mut world = calm_world();
    let asker = world.ask();
    world.happens(Event::Reload(Some(asker)));
    world.finish_what_is_under_way();
    assert!(world.asked.contains(&asker));
    (world, asker)
}

fn expect_failed(mut world: World, asker: Asker, why: &str) {
    let outcome = world.answered.get(&asker);
    assert!(matches!(outcome, Some(Outcome::Failed(text)) if text.contains(why)), "{outcome:?}");
    world.calm_down(true);
    assert_eq!(world.serving, Some(0));
    world.expect_one_generation();
}

#[test]
fn workers_that_do_not_come_to_serve_roll_back() {
    let (mut world, asker) = starting();
    world.now_ms = world.decider.due_ms().unwrap();
    world.happens(Event::Tick);
    expect_failed(world, asker, "start_timeout");
}

#[test]
fn a_worker_that_dies_before_it_serves_rolls_back() {
    let (mut world, asker) = starting();
    let newest = world.processes.iter().find(|(_, it)| it.generation == 1).map(|it| *it.0);
    world.dies(newest.unwrap());
    expect_failed(world, asker, "died");
}

#[test]
fn a_reload_that_lacks_records_waits_for_those_who_drain() {
    let terms = |workers| Terms { workers, generations_max: 9, ..terms(&mut Random::new(1)) };
    let mut decider = Decider::new(terms(120), 0);
    let play = |decider: &mut Decider, event| {
        let mut events = VecDeque::from([event]);
        let mut answers = Vec::new();
        while let Some(event) = events.pop_front() {
            for action in decider.step(event, 0) {
                match action {
                    Action::Prepare(generation) => {
                        events.push_back(Event::Prepared { generation, terms: terms(120) });
                    }
                    Action::Fork { record, .. } => {
                        events.extend([Event::Forked(record), Event::Serves(record)]);
                    }
                    Action::Send { record, .. } => events.push_back(Event::Draining(record)),
                    Action::Answer(asker, outcome) => answers.push((asker, outcome)),
                    _ => {}
                }
            }
        }
        answers
    };
    play(&mut decider, Event::Tick);
    let done = |answers: &[(Asker, Outcome)], by| matches!(answers, [(asker, Outcome::Reloaded { .. })] if *asker == by);
    assert!(done(&play(&mut decider, Event::Reload(Some(1))), 1));
    assert_eq!(play(&mut decider, Event::Reload(Some(2))), [], "240 of 256 records are in use");
    for record in (0..103).filter_map(WorkerId::new) {
        assert_eq!(play(&mut decider, Event::Ended(record)), [], "119 are too few");
    }
    let answers = play(&mut decider, Event::Ended(WorkerId::new(103).unwrap()));
    assert!(done(&answers, 2), "{answers:?}");
}

#[test]
fn by_default_no_reload_waits_for_records_however_many_workers_there_are() {
    let default = crate::config::embedded().generations_max;
    assert!(crate::config::WORKERS_MAX * default <= WORKER_RECORDS_MAX);
}

#[test]
fn a_reload_that_waits_too_long_ends_the_oldest_who_drain() {
    let mut world = calm_world();
    world.processes.values_mut().for_each(|it| it.stubborn = true);
    while world.decider.generations.len() < world.generations_max {
        world.happens(Event::Reload(None));
        world.settle();
        world.processes.values_mut().for_each(|it| it.stubborn = true);
    }
    let asker = world.ask();
    world.happens(Event::Reload(Some(asker)));
    world.settle();
    let before = world.now_ms;
    assert!(world.processes.values().all(|it| it.told != Some(Command::Kill)));
    world.calm_down(false);
    assert!(world.now_ms >= before + 1000, "it did not wait");
    assert!(matches!(world.answered[&asker], Outcome::Reloaded { .. }));
}

#[test]
fn an_upgrade_goes_on_with_all_that_was() {
    let mut world = calm_world();
    world.happens(Event::Reload(None));
    world.settle();
    let upgrader = world.ask();
    world.happens(Event::Upgrade(Some(upgrader)));
    assert_eq!(world.under_way, [Action::Try]);
    let reloader = world.ask();
    world.happens(Event::Reload(Some(reloader)));
    assert_eq!(world.under_way, [Action::Try], "no reload beside it");
    world.calm_down(true);
    assert_eq!(world.upgrades, 1);
    for asker in [upgrader, reloader] {
        assert!(matches!(world.answered[&asker], Outcome::Reloaded { generation: 2, .. }));
    }
    world.expect_one_generation();
}

#[test]
fn of_two_upgrades_the_second_is_refused() {
    let mut world = calm_world();
    let first = world.ask();
    world.happens(Event::Upgrade(Some(first)));
    let second = world.ask();
    world.happens(Event::Upgrade(Some(second)));
    let refused = Outcome::Failed("another upgrade is in progress".to_owned());
    assert_eq!(world.answered.get(&second), Some(&refused));
    world.calm_down(true);
    assert!(matches!(world.answered[&first], Outcome::Reloaded { .. }));
}

#[test]
fn a_program_that_never_answers_does_not_take_over() {
    let mut world = calm_world();
    let asker = world.ask();
    world.happens(Event::Upgrade(Some(asker)));
    world.now_ms = world.decider.due_ms().unwrap();
    world.happens(Event::Tick);
    assert!(world.under_way.is_empty(), "it may still answer");
    expect_failed(world, asker, "start_timeout");
}

#[test]
fn a_fork_that_fails_rolls_back() {
    let mut world = calm_world();
    let before = world.processes.len();
    let asker = world.ask();
    world.happens(Event::Reload(Some(asker)));
    world.finish_one();
    let Some(Action::Fork { record, .. }) = world.under_way.pop_front() else { panic!("no fork") };
    world.happens(Event::NotForked { record, why: "no memory".to_owned() });
    world.calm_down(true);
    assert_eq!(world.answered[&asker], Outcome::Failed("no memory".to_owned()));
    assert_eq!((world.serving, world.processes.len()), (Some(0), before));
}

#[test]
fn reloads_that_wait_become_one() {
    let mut world = calm_world();
    let mut generations_max = world.generations_max;
    while world.decider.generations.len() < generations_max {
        world.happens(Event::Reload(None));
        world.settle();
        generations_max = world.generations_max;
    }
    for _ in 0..2 {
        let asker = world.ask();
        world.happens(Event::Reload(Some(asker)));
    }
    let begun = world.decider.next_generation;
    assert_eq!(world.asked.len(), 2, "they wait");
    world.calm_down(true);
    assert_eq!(world.decider.next_generation, begun + 1);
    world.expect_one_generation();
}

#[test]
fn a_worker_that_dies_while_it_drains_is_not_replaced() {
    let mut world = calm_world();
    world.happens(Event::Reload(None));
    world.settle();
    let draining = world.processes.iter().find(|(_, it)| it.told.is_some()).map(|it| *it.0);
    world.dies(draining.unwrap());
    assert!(world.under_way.is_empty());
    world.calm_down(true);
    world.expect_one_generation();
}
