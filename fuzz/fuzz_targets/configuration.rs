//! Whatever is in a configuration file or a drop-in, reading it ends: no panic, no endless loop, no exhausted memory.
//!
//! `cargo +nightly fuzz run configuration -- -max_len=10485760 -timeout=10 -rss_limit_mb=1024`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let file = folder.path().join("config.yaml");
    let drop_ins = folder.path().join("d");
    // The first half is the file, the second a drop-in; both may be the same document.
    let (first, second) = data.split_at(data.len() / 2);
    let written = std::fs::write(&file, data)
        .and_then(|()| std::fs::create_dir(&drop_ins))
        .and_then(|()| std::fs::write(drop_ins.join("a.conf"), first))
        .and_then(|()| std::fs::write(drop_ins.join("b.conf"), second));
    if written.is_err() {
        return;
    }
    let config = format!("--config={}", file.display());
    let _ = config::load(std::slice::from_ref(&config));
    let _ = config::load(&[config, format!("--config-dir={}", drop_ins.display())]);
});
