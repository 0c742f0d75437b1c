//! What one part alone may decide: names that occur in its files and nowhere else, tests apart.

use std::path::PathBuf;

use super::callers::production;

/// A name, the folder of the files that may use it, and the reason.
const RESERVED: &[(&str, &str, &str)] =
    &[("AllocatedPod::granted", "crates/node/src/allocation", "what a pod was granted is decided there")];

/// What is wrong in these files of the crates.
pub(super) fn check(files: &[(PathBuf, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in production(files) {
        for (name, folder, why) in RESERVED.iter().filter(|(_, folder, _)| !source.path.starts_with(folder)) {
            let lines = source.lines.iter().enumerate().filter(|(_, line)| line.contains(name));
            wrong.extend(lines.map(|(number, _)| {
                format!("{}:{}: {name} is for {folder} alone: {why}", source.path.display(), number + 1)
            }));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_name_is_used_in_its_folder_and_in_tests() {
        let (name, folder, _) = RESERVED[0];
        let found = |path: &str, text: &str| check(&[(PathBuf::from(path), text.to_owned())]).len();
        let used = format!("fn f() {{\n    {name}(pod);\n}}\n");
        assert_eq!(found("crates/kubelet/src/a.rs", &used), 1);
        assert_eq!(found(&format!("{folder}/a.rs"), &used), 0);
        assert_eq!(found("crates/kubelet/src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{used}}}\n")), 0);
        assert_eq!(found("crates/kubelet/tests/it/a.rs", &used), 0);
    }
}
