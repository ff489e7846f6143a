//! One libFuzzer program for all targets of `weir::fuzz`. `WEIR_FUZZ` names the one to run; without
//! it, the program prints their names.
#![no_main]

#[cfg(fuzzing)]
use std::sync::OnceLock;

#[cfg(fuzzing)]
static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

#[cfg(fuzzing)]
fn choose() {
    let name = std::env::var("WEIR_FUZZ").unwrap_or_default();
    let Some((_, target)) = weir::fuzz::TARGETS.iter().find(|(known, _)| *known == name) else {
        weir::fuzz::TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(i32::from(!name.is_empty()));
    };
    let _ = TARGET.set(*target);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(data);
    }
});

#[cfg(not(fuzzing))]
compile_error!("build it with tests/fuzz/run, which sets RUSTC_WORKSPACE_WRAPPER");
