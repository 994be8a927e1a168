//! What the inference gateway keeps in memory: after many requests, and for connections that wait.

use corral_tests::load::{End, Load, Target};

use crate::figures::{Bounds, resident};
use crate::hops::{Corral, MODEL};

/// Resident memory of `corral serve` after all requests, in MB.
const MEMORY_BOUND: f64 = 30.0;

/// The first requests, after which memory is to stay as it is, and all of them.
const REQUESTS: (usize, usize) = (10_000, 100_000);

/// What may come on top after the first requests: a part, or that many MB where that is more.
const GROWTH_BOUND: (f64, f64) = (0.05, 1.0);

/// Connections that wait, and what they may take in MB.
const IDLE: (usize, f64) = (1000, 20.0);

pub(crate) fn costs(bounds: &mut Bounds) {
    let corral = Corral::start();
    let Some(gateway) = corral.gateway else {
        return bounds.miss("corral serve has no inference gateway whose memory could be measured");
    };
    let memory = || resident(corral.daemon.pid());
    let (load, target) = (Load::default(), Target::new(gateway, MODEL, 1));
    let (first, all) = REQUESTS;
    println!("\nMemory of corral serve in MB, its gateway under load on 64 connections");
    println!("  before any request             {:>7.1}", memory());
    load.rate(&target, 64, End::At(first));
    let early = memory();
    println!("  after {first:>7} requests         {early:>7.1}");
    let rate = load.rate(&target, 64, End::At(all - first));
    let late = memory();
    let verdict = bounds.at_most("the memory after many requests", late, MEMORY_BOUND, " MB");
    println!("  after {all:>7} requests         {late:>7.1}  {verdict}  ({rate:.0} requests/s)");
    let allowed = (early * GROWTH_BOUND.0).max(GROWTH_BOUND.1);
    let verdict = bounds.at_most("the growth with further requests", late - early, allowed, " MB");
    println!("  growth from one to the other   {:>7.1}  {verdict}", late - early);
    let idle = load.idle(&target, IDLE.0);
    let grown = memory() - late;
    let verdict = bounds.at_most("the memory of idle connections", grown, IDLE.1, " MB");
    println!("  for {} idle connections      {grown:>7.1}  {verdict}  (each has made a request)", IDLE.0);
    drop(idle);
}
