//! What an operator sees of a configuration.

use super::*;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn run_in(folder: &tempfile::TempDir, words: &[&str]) -> (bool, String) {
    let at = folder.path().display().to_string();
    let words: Vec<String> = words.iter().map(|word| word.replace('@', &at)).collect();
    let (is_good, text) = match run(&words) {
        Invocation::Print(text) => (true, text),
        Invocation::Faulty(text) => (false, text),
        Invocation::Kubeconfig { path, is_json } => (true, format!("{} {is_json}", path.display())),
        Invocation::Run(_) => panic!("{words:?} starts a node"),
    };
    (is_good, text.replace(&at, "@"))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), format!("{HEAD}{text}")).unwrap();
    }
    folder
}

#[test]
fn check_gives_each_finding_its_place() {
    let folder = folder(&[
        ("c.yaml", "port: 70000\nmaxPods: many\nevictionHard:\n  memory.avail: 1Gi\nmaxPod: 3\n"),
        ("d/a.conf", "oomScoreAdj: 5000\n"),
    ]);
    let (is_good, text) = run_in(&folder, &["check", "@/c.yaml", "--config-dir", "@/d", "--event-burst=-1"]);
    assert!(!is_good);
    let expected = [
        "warning: --event-burst: this flag is deprecated",
        "error: eventBurst: -1 must not be a negative number (set by --event-burst)",
        "error: @/c.yaml:3:7: port: 70000 must be between 1 and 65535, inclusive",
        "error: @/c.yaml:4:10: maxPods: must be a whole number, not a string",
        "error: @/c.yaml:6:17: evictionHard[memory.avail]: unsupported eviction signal memory.avail",
        "warning: @/c.yaml:7:9: maxPod: unknown field \"maxPod\" (did you mean \"maxPods\"?)",
        "error: @/d/a.conf:3:14: oomScoreAdj: 5000 must be between -1000 and 1000, inclusive",
        "invalid: 5 errors, 2 warnings",
    ];
    // In the order in which somebody mends them: what is in no file, then each file from its top.
    let mut rest = text.as_str();
    for line in expected {
        let (_, after) =
            rest.split_once(line).unwrap_or_else(|| panic!("{line}\nis not where it should be in\n{text}"));
        rest = after;
    }
}

#[test]
fn check_says_when_all_is_well() {
    let folder = folder(&[("c.yaml", "maxPods: 5\n")]);
    assert_eq!(run_in(&folder, &["check", "@/c.yaml"]), (true, "valid\n".to_owned()));
}

#[test]
fn show_says_where_each_value_came_from() {
    let folder = folder(&[
        (
            "c.yaml",
            "maxPods: 5\nport: 1\nsyncFrequency: 0s\npodsPerCore: 0\nfeatureGates: {EnvFiles: false}\nevictionHard: {memory.available: 1Gi}\n",
        ),
        ("d/a.conf", "maxPods: 6\nevictionHard: {nodefs.available: 1Gi}\n"),
    ]);
    let flags =
        ["show", "--config=@/c.yaml", "--config-dir=@/d", "--port=2", "--feature-gates=KubeletTracing=true"];
    let (is_good, text) = run_in(&folder, &flags);
    assert!(is_good, "{text}");
    for row in [
        "maxPods 6 drop-in @/d/a.conf:3",
        "port 2 flag --port",
        "featureGates.EnvFiles false file @/c.yaml:7",
        "featureGates.KubeletTracing true flag --feature-gates",
        "evictionHard[memory.available] \"1Gi\" file @/c.yaml:8",
        "evictionHard[nodefs.available] \"1Gi\" drop-in @/d/a.conf:4",
        "healthzPort 10248 default",
        "syncFrequency \"1m0s\" default",
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.lines().any(|line| words(line) == row), "{row}\nis not in\n{text}");
    }
}

#[test]
fn show_takes_the_file_as_check_does() {
    let folder = folder(&[("c.yaml", "maxPods: 5\n")]);
    let (_, by_flag) = run_in(&folder, &["show", "--config=@/c.yaml", "--port=2"]);
    assert_eq!(run_in(&folder, &["show", "@/c.yaml", "--port=2"]), (true, by_flag));
    let (is_good, text) = run_in(&folder, &["show", "-o", "json", "@/c.yaml"]);
    assert!(is_good && text.contains("\"maxPods\":5"), "{text}");
}

#[test]
fn show_masks_headers_and_knows_json() {
    let folder = folder(&[("c.yaml", "staticPodURLHeader: {Authorization: [hunter2]}\n")]);
    let (is_good, text) = run_in(&folder, &["show", "-o", "json", "--config=@/c.yaml"]);
    assert!(is_good && !text.contains("hunter2"), "{text}");
    let json: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(json["configuration"]["staticPodURLHeader"]["Authorization"], json!(["<masked>"]));
    assert_eq!(json["origins"]["maxPods"], "default");
    let (is_good, text) = run_in(&folder, &["show", "--output=json", "--config=@/none"]);
    assert!(!is_good && text.starts_with("{\"accepted\":false"), "{text}");
    assert!(!run_in(&folder, &["show", "-o", "xml"]).0);
}

#[test]
fn a_kubeconfig_is_looked_at_by_others() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_in(&folder, &["kubeconfig", "k"]), (true, "k false".to_owned()));
    assert_eq!(run_in(&folder, &["kubeconfig", "-o", "json", "k"]), (true, "k true".to_owned()));
    for words in [&["kubeconfig"][..], &["kubeconfig", "-x"], &["kubeconfig", "a", "b"]] {
        assert!(!run_in(&folder, words).0, "{words:?}");
    }
}
