//! Documents made to hurt: whatever they do, reading ends with an answer.

use super::*;

/// Reads a text as the file and as a drop-in; what comes of it does not matter here.
fn survives(text: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (file, drop_ins) = (folder.path().join("config.yaml"), folder.path().join("d"));
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(&file, text).unwrap();
    std::fs::write(drop_ins.join("a.conf"), text).unwrap();
    let config = format!("--config={}", file.display());
    let alone = load(std::slice::from_ref(&config));
    let _ = load(&[config, format!("--config-dir={}", drop_ins.display())]);
    alone.is_ok()
}

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
const JSON_HEAD: &str =
    r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","logging":"#;

#[test]
fn deep_nesting_is_refused() {
    for depth in [1_000, 100_000] {
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let text = format!("{HEAD}logging: {}{}", open.repeat(depth), close.repeat(depth));
            assert!(!survives(&text), "{depth} times {open}");
        }
        let text = format!("{JSON_HEAD}{}1{}}}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(!survives(&text), "{depth} times JSON");
        let indented: String =
            (0..depth.min(3000)).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        survives(&format!("{HEAD}{indented}"));
        assert!(!survives(&format!("{HEAD}logging:\n{}x", "- ".repeat(depth))), "{depth} times -");
    }
}

#[test]
fn anchors_do_not_multiply() {
    let mut text = format!("{HEAD}x0: &a0 [a, a, a, a, a, a, a, a, a, a]\n");
    for level in 1..20 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("x{level}: &a{level} [{items}]\n");
    }
    assert!(!survives(&text));
    let merged = format!("{HEAD}a: &a {{b: 1}}\nc: {{{}}}\n", "<<: *a, ".repeat(100_000));
    survives(&merged);
    assert!(!survives(&format!("{HEAD}logging: &a {{format: *a}}\n")));
}

/// As large as a document may be that is read three times in a test.
const SIZE: usize = 100 << 10;

#[test]
fn whatever_fills_a_document_is_read_or_refused() {
    let fill = |piece: &str| format!("{HEAD}{}", piece.repeat(SIZE / piece.len()));
    for piece in [
        "# comment\n",
        "\n",
        "a: 1\n",
        "- a\n",
        "a",
        "\"",
        "{",
        "&a *a ",
        "%YAML 1.1\n",
        "---\n",
        "\u{0}",
        "? ",
    ] {
        survives(&fill(piece));
    }
    let keys: String = (0..SIZE / 10).map(|number| format!("k{number:07}:\n")).collect();
    survives(&format!("{HEAD}{keys}"));
    survives(&format!("{HEAD}clusterDomain: \"{}\"\n", "x".repeat(SIZE)));
    survives(&format!("{HEAD}maxPods: {}\n", "9".repeat(SIZE)));
    survives(&format!("{HEAD}syncFrequency: {}s\n", "1h".repeat(SIZE / 2)));
}

#[test]
fn ten_mebibytes_are_refused_unread() {
    for piece in ["# comment\n", "a: 1\n", "[", "{\"a\":"] {
        assert!(!survives(&format!("{HEAD}{}", piece.repeat((10 << 20) / piece.len()))), "{piece}");
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, [0xff, 0xfe, 0, 1]).unwrap();
    assert!(load(&[format!("--config={}", file.display())]).is_err());
}
