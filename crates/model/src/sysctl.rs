//! Kernel parameters: how they are written, and which namespace has its own value of one.

/// The namespace a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// System V IPC and message queues.
    Ipc,
    /// The network.
    Net,
    /// Names of the host.
    Uts,
    /// Users.
    User,
}

/// The name with dots between its parts. Parameters may be written with slashes, and then a dot stands for a slash
/// (`net/ipv4/conf/eth0.1/forwarding`).
pub fn with_dots(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// The namespace that a parameter (with dots), or all that begin with the text, belong to; `None` for one of the whole
/// machine.
pub fn namespace_of(name: &str) -> Option<Namespace> {
    match name {
        "kernel.domainname" => Some(Namespace::Uts),
        "kernel.sem"
        | "kernel.shm"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced"
        | "kernel.msg"
        | "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni" => Some(Namespace::Ipc),
        _ if name.starts_with("net.") => Some(Namespace::Net),
        _ if name.starts_with("fs.mqueue.") => Some(Namespace::Ipc),
        _ if name.starts_with("user.") => Some(Namespace::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_dots_and_a_namespace() {
        for (name, dotted, namespace) in [
            ("net.core.somaxconn", "net.core.somaxconn", Some(Namespace::Net)),
            ("net/ipv4/conf/eno2.100/x", "net.ipv4.conf.eno2/100.x", Some(Namespace::Net)),
            ("net.ipv4.conf.eno2/100.x", "net.ipv4.conf.eno2/100.x", Some(Namespace::Net)),
            ("kernel/sem", "kernel.sem", Some(Namespace::Ipc)),
            ("fs/mqueue/msg_max", "fs.mqueue.msg_max", Some(Namespace::Ipc)),
            ("kernel.domainname", "kernel.domainname", Some(Namespace::Uts)),
            ("user.max_user_namespaces", "user.max_user_namespaces", Some(Namespace::User)),
            ("vm.swappiness", "vm.swappiness", None),
            ("kernel", "kernel", None),
        ] {
            assert_eq!(with_dots(name), dotted);
            assert_eq!(namespace_of(dotted), namespace, "{name}");
        }
    }
}
