//! A kubelet in a mount namespace, and what it writes.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// For anything to happen that has to: a machine under load takes its time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// The kernel's settings as a node wants them.
const TUNABLES: [(&str, &str); 6] = [
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

/// Puts the test's files in place of the machine's and becomes the kubelet, so that a signal to this
/// process is one to the kubelet.
const ENTER: &str = r#"
set -e
for file in $(cd "$LAB/sys" && find . -type f); do mount --bind "$LAB/sys/$file" "/proc/sys/$file"; done
mount --bind "$LAB/swaps" /proc/swaps
mount --bind "$LAB/log" /var/log
exec "$@"
"#;

/// What a kubelet finds.
pub(crate) struct Lab {
    folder: TempDir,
    /// Fields that are not as usual.
    pub(crate) document: String,
    /// Flags beside the usual ones.
    pub(crate) flags: Vec<String>,
    /// The environment.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// A command that becomes the kubelet.
    pub(crate) becomes: Vec<&'static str>,
}

impl Lab {
    /// A host that is all right, and a configuration without servers and API server.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lab = Self {
            folder,
            document: String::new(),
            flags: Vec::new(),
            variables: Vec::new(),
            becomes: Vec::new(),
        };
        for (name, value) in TUNABLES {
            lab.write(&format!("sys/{name}"), value);
        }
        lab.write("swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        fs::create_dir_all(lab.path("log/containers")).unwrap();
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The same with more fields; a field given here replaces the usual one.
    pub(crate) fn with(mut self, document: &str) -> Self {
        self.document.push_str(document);
        self
    }

    pub(crate) fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn config(&self) -> String {
        let socket = self.path("cri.sock");
        let logs = self.path("logs");
        let usual = [
            ("failCgroupV1", "false".to_owned()),
            ("cgroupsPerQOS", "false".to_owned()),
            ("enforceNodeAllocatable", "[]".to_owned()),
            ("enableServer", "false".to_owned()),
            ("healthzPort", "0".to_owned()),
            ("oomScoreAdj", "0".to_owned()),
            ("maxOpenFiles", "1024".to_owned()),
            ("podLogsDir", logs.display().to_string()),
            ("containerRuntimeEndpoint", format!("unix://{}", socket.display())),
        ];
        let mut text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n".to_owned();
        for (field, value) in usual {
            if !self.document.lines().any(|line| line.starts_with(&format!("{field}:"))) {
                text += &format!("{field}: {value}\n");
            }
        }
        text + &self.document
    }

    /// Starts the kubelet.
    pub(crate) fn start(&self) -> Child {
        self.write("config.yaml", &self.config());
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ENTER, "sh"]).args(&self.becomes);
        command.arg(env!("CARGO_BIN_EXE_kubelet"));
        command.arg(flag("config", &self.path("config.yaml")));
        command.arg(flag("cert-dir", &self.path("pki")));
        if !self.flags.iter().any(|flag| flag.starts_with("--root-dir=")) {
            command.arg(flag("root-dir", &self.path("root")));
        }
        command.args(&self.flags).env("LAB", self.folder.path());
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap()
    }

    /// Starts it and waits for its end, which comes by itself.
    pub(crate) async fn run(&self) -> Ended {
        ended(self.start()).await
    }
}

/// How a kubelet ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of the log, without its header.
    pub(crate) fn last(&self) -> &str {
        let line = self.stderr.lines().last().unwrap_or_default();
        line.split_once("] ").map_or(line, |(_, body)| body)
    }
}

/// Waits for the end.
pub(crate) async fn ended(child: Child) -> Ended {
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("the kubelet goes on").unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// systemd's end of a notification socket.
pub(crate) struct Systemd(tokio::net::UnixDatagram);

impl Systemd {
    pub(crate) fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(tokio::net::UnixDatagram::from_std(socket).unwrap())
    }

    /// The next notice. A kubelet that ends instead has its log shown.
    pub(crate) async fn notice(&self, child: &mut Child) -> String {
        let mut buffer = [0; 64];
        let received = async {
            // Cancel-safe both: a datagram not taken stays, and so does the exit status.
            tokio::select! {
                length = self.0.recv(&mut buffer) => Ok(length.unwrap()),
                status = child.wait() => Err(status.unwrap()),
            }
        };
        match timeout(DEADLINE, received).await.expect("no notice") {
            Ok(length) => String::from_utf8(buffer[..length].to_vec()).unwrap(),
            Err(status) => {
                let mut log = String::new();
                if let Some(stderr) = &mut child.stderr {
                    tokio::io::AsyncReadExt::read_to_string(stderr, &mut log).await.unwrap();
                }
                panic!("the kubelet ended with {status}:\n{log}");
            }
        }
    }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
}
