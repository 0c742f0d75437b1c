//! Input that a program left unread when it ended.
//!
//! containerd says how a program ended once its input has gone somewhere, and does not notice that nobody is left to read
//! it: with more of it than fits into the pipes on the way, both client and runtime would wait for ever. There is nothing
//! to be seen of that in what they say, so this looks now and then at sessions that were sent so much, as long as
//! something moves in them.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::activity::Activity;

/// Reads away what a session's program has left, and returns whether there was some.
pub(crate) type FreeInput = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// The first look comes so long after there was much input, and each later one after twice as long.
const SOON: Duration = Duration::from_secs(1);
/// At most so long: a look costs some milliseconds of processor time, and a session may go on for hours.
const RARELY: Duration = Duration::from_secs(30);

/// Never ends: it is the runtime that ends a session. Without input to look after it only waits, and so it does in the
/// many sessions with little input.
pub(crate) async fn look_after(activity: &Activity, free_input: Option<&FreeInput>) {
    let Some(free_input) = free_input else { return std::future::pending().await };
    activity.much_input().await;
    let (mut looked, mut was_stuck, mut pause) = (Instant::now(), false, SOON);
    loop {
        tokio::time::sleep(pause).await;
        // What moved shortly before a look may have filled a pipe after it.
        let has_moved = activity.last() + SOON > looked;
        if has_moved || was_stuck {
            looked = Instant::now();
            was_stuck = free_input().await;
            pause = (pause * 2).min(RARELY);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_with_much_input_are_looked_at_as_long_as_something_moves() {
        const HOUR: Duration = Duration::from_secs(3600);
        let activity = Activity::new();
        let (mut client, mut runtime) =
            (activity.watch(tokio::io::repeat(7)), activity.watch_runtime(tokio::io::sink()));
        let (looks, stuck) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let free_input: FreeInput = {
            let (looks, stuck) = (looks.clone(), stuck.clone());
            Box::new(move || {
                looks.fetch_add(1, Ordering::Relaxed);
                let left =
                    stuck.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                std::future::ready(left.is_ok()).boxed()
            })
        };
        let looking = {
            let activity = activity.clone();
            tokio::spawn(async move { look_after(&activity, Some(&free_input)).await })
        };
        let mut piece = vec![0; 10_000];
        for (pieces, finds, want) in [(6, 0, 0), (1, 0, 1), (0, 0, 0), (1, 0, 1), (1, 3, 4), (100, 0, 1)] {
            stuck.store(finds, Ordering::Relaxed);
            for _ in 0..pieces {
                client.read_exact(&mut piece).await.unwrap();
                runtime.write_all(&piece).await.unwrap();
            }
            tokio::time::sleep(HOUR).await;
            assert_eq!(looks.swap(0, Ordering::Relaxed), want, "{pieces} pieces, {finds} finds");
        }
        looking.abort();
    }
}
