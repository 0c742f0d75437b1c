//! Kills of processes as memory runs out: what the kernel's log says of them, line by line.

/// A process that the kernel has killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// The cgroup whose limit was hit; `None` when the machine itself was out of memory.
    pub limited_group: Option<String>,
}

/// A parser of the messages about such kills, of kernels before and since 5.0. It begins with the first of a kill's.
#[derive(Debug, Default)]
pub struct OomMessages {
    /// A kill was announced, with the group of an old kernel's message as soon as it came.
    announced: Option<Option<String>>,
}

impl OomMessages {
    /// Takes the next message in. Returns what was killed once that is known.
    pub fn take(&mut self, message: &str) -> Option<OomKill> {
        let Some(group) = &mut self.announced else {
            if message.contains("invoked oom-killer:") {
                self.announced = Some(None);
            }
            return None;
        };
        if let Some(limited) = limited_before_5_0(message) {
            *group = Some(limited.to_owned());
            return None;
        }
        let kill = since_5_0(message).or_else(|| {
            let (pid, process) = killed(message)?;
            Some(OomKill { pid, process: process.to_owned(), limited_group: group.clone() })
        })?;
        self.announced = None;
        let limited_group = kill.limited_group.filter(|group| group != "/");
        Some(OomKill { limited_group, ..kill })
    }
}

/// `Task in /a killed as a result of limit of /b`
fn limited_before_5_0(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("Task in ")?;
    let (_, group) = rest.split_once(" killed as a result of limit of ")?;
    Some(group)
}

/// `oom-kill:constraint=…,oom_memcg=/b,task_memcg=/a,task=name,pid=1,uid=0`. Without `oom_memcg` no group has hit its limit,
/// and upstream goes by the message after that.
fn since_5_0(message: &str) -> Option<OomKill> {
    let (_, fields) = message.split_once("oom-kill:constraint=")?;
    let (_, rest) = fields.split_once(",oom_memcg=")?;
    let (group, rest) = rest.split_once(",task_memcg=")?;
    let (_, rest) = rest.split_once(",task=")?;
    // A name may have commas.
    let (process, rest) = rest.rsplit_once(",pid=")?;
    let (pid, _) = rest.split_once(",uid=")?;
    Some(OomKill {
        pid: pid.parse().ok()?,
        process: process.to_owned(),
        limited_group: Some(group.to_owned()),
    })
}

/// `Killed process 1 (name)`
fn killed(message: &str) -> Option<(u32, &str)> {
    let (_, rest) = message.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let (process, _) = rest.rsplit_once(')')?;
    Some((pid.parse().ok()?, process))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kills(messages: &str) -> Vec<(u32, String, Option<String>)> {
        let mut parser = OomMessages::default();
        let lines = messages.lines().filter_map(|line| parser.take(line));
        lines.map(|kill| (kill.pid, kill.process, kill.limited_group)).collect()
    }

    #[test]
    fn whose_memory_ran_out_is_told_apart() {
        let begin = "eater invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n";
        let killed =
            "Out of memory: Killed process 77 (my (odd), eater) total-vm:1460016kB, anon-rss:1414008kB\n";
        let odd = || "my (odd), eater".to_owned();
        for (messages, expected) in [
            // The machine, in the words of a new kernel and an old one.
            (
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
                 task_memcg=/kubepods/pod1,task=eater,pid=77,uid=0\n",
                None,
            ),
            ("Tasks state (memory values in pages):\n", None),
            ("Task in /kubepods/pod1 killed as a result of limit of /\n", None),
            // A group.
            (
                "Task in /kubepods/pod1/c killed as a result of limit of /kubepods/pod1\n",
                Some("/kubepods/pod1".to_owned()),
            ),
        ] {
            let messages = format!("[drm] noise\n{begin}Mem-Info:\n{messages}{killed}noise\n");
            assert_eq!(kills(&messages), [(77, odd(), expected)], "{messages}");
        }
        let of_group = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,\
                        oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/c,task=a,b,pid=77,uid=0\n";
        let group = || Some("/kubepods/pod1".to_owned());
        // The last message of such a kill is none of another one.
        assert_eq!(kills(&format!("{begin}{of_group}{killed}")), [(77, "a,b".to_owned(), group())]);
        assert_eq!(kills(&format!("{begin}{of_group}{begin}{of_group}")).len(), 2);
        assert_eq!(kills(killed), [], "it was not announced");
        assert_eq!(kills(&format!("{begin}Killed process x (y)\nKilled process 1\n")), []);
    }
}
