//! A parser shows the lines around a mistake. In a kubeconfig these may hold a token or a key, and its
//! errors end up in the log: only the place and the mistake may be told.

use kube::config::KubeconfigError;

/// The same error without an excerpt of the file.
pub(crate) fn without(error: KubeconfigError) -> KubeconfigError {
    match error {
        KubeconfigError::Parse(parse) => match *parse {
            serde_saphyr::Error::WithSnippet { error, .. } => KubeconfigError::Parse(error),
            other => KubeconfigError::Parse(Box::new(other)),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use crate::{ClientSettings, connect};

    #[tokio::test]
    async fn a_mistake_does_not_give_away_the_line_it_is_in() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "users:\n- user:\n    token: s3cret: x\n").unwrap();
        let Err(error) = connect(file.path(), ClientSettings::default()).await else { panic!() };
        let text = crate::call::chain(&error);
        assert!(!text.contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{text}");
        assert!(text.contains("line 3"), "{text}");
    }
}
