//! Sets of few objects that are told as a whole, each reduced to what somebody needs of it, by their names.

use std::collections::BTreeMap;

use futures::Stream;

use crate::watch::{Change, Watch, Watched};

/// All of them whenever they are others than before. Never ends.
pub(crate) fn follow<K: Watched + Send + 'static, V: Clone + PartialEq + Send + 'static>(
    watch: Watch<K>,
    entry: fn(K) -> (String, V),
) -> impl Stream<Item = BTreeMap<String, V>> + Send {
    futures::stream::unfold((watch, None), move |(mut watch, mut known)| async move {
        loop {
            let mut all: BTreeMap<String, V> = known.clone().unwrap_or_default();
            apply(&mut all, watch.next().await, entry);
            if known.as_ref() != Some(&all) {
                known = Some(all.clone());
                return Some((all, (watch, known)));
            }
        }
    })
}

fn apply<K, V>(all: &mut BTreeMap<String, V>, change: Change<K>, entry: fn(K) -> (String, V)) {
    match change {
        Change::Listed(objects) => *all = objects.into_iter().map(entry).collect(),
        Change::Applied(object) => all.extend([entry(object)]),
        Change::Deleted(object) => {
            all.remove(&entry(object).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_follows_what_happens_to_it() {
        let mut all = BTreeMap::new();
        let mut after = |change| {
            apply(&mut all, change, |(name, value): (&str, &str)| (name.to_owned(), value.to_owned()));
            all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(after(Change::Listed(vec![("a", "x"), ("b", "y")])), "a=x b=y");
        assert_eq!(after(Change::Applied(("c", "z"))), "a=x b=y c=z");
        assert_eq!(after(Change::Deleted(("a", "x"))), "b=y c=z");
        assert_eq!(after(Change::Listed(vec![])), "");
    }
}
