//! The images of upstream's node end-to-end suite: those the tests work with, made from the suite's own programs and
//! from Debian's, and empty ones in place of those that are only pulled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::files::Files;
use super::oci::{self, Archive, Config, Layer};
use super::{AGNHOST, BUSYBOX, FORMAT, PAUSE, PAUSE_SOURCE};
use crate::peers::{self, Peers};
use crate::{command, packages, workspace};

/// Counts up when what is in the images changes.
const CONTENT: &[u8] = b"1";

/// Debian packages of what the images hold; nothing of them is installed.
const PACKAGES: &[&str] = &[
    "bash",
    "bind9-dnsutils",
    "bind9-host",
    "curl",
    "hostname",
    "iperf",
    "iproute2",
    "netcat-openbsd",
    "nginx-light",
    "perl-base",
    "socat",
    "stress",
    "util-linux",
];

/// Prints the time of day.
const NMETER_SOURCE: &str = include_str!("nmeter.c");

/// What stands in for images that are pulled before the tests but serve none that can run here.
const STAND_INS: &[&str] = &[
    "registry.k8s.io/e2e-test-images/node-perf/npb-ep:1.6.0",
    "registry.k8s.io/e2e-test-images/node-perf/npb-is:1.7.0",
    "registry.k8s.io/e2e-test-images/node-perf/pytorch-wide-deep:1.0.0",
    "registry.k8s.io/e2e-test-images/volume/nfs:1.6.0",
    "registry.k8s.io/e2e-test-images/apparmor-loader:1.4",
    "registry.k8s.io/node-problem-detector/node-problem-detector:v1.35.2",
    "docker.io/nfvpe/sriov-device-plugin:v3.1",
    STAND_IN,
];
/// One of them.
pub(crate) const STAND_IN: &str = "gcr.io/cadvisor/cadvisor:v0.47.2";

/// Writes the archive unless it is there, and returns its path. `suite` has the suite's programs, `source` is
/// Kubernetes' source.
pub(crate) fn build(peers: &Peers, suite: &Path, source: &Path) -> Result<PathBuf> {
    let agnhost = peers.kubernetes("agnhost");
    let places = [agnhost.as_path(), suite].map(|path| path.as_os_str().as_encoded_bytes());
    let packages = PACKAGES.join(" ");
    let texts = [PAUSE_SOURCE, NMETER_SOURCE, &packages].map(str::as_bytes);
    let key = peers::short_hash(&[FORMAT, CONTENT, texts[0], texts[1], texts[2], places[0], places[1]]);
    let archive = workspace::cache()?.join("images").join(format!("suite-{key}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let unpacked = packages::unpack_beside(PACKAGES)?;
    eprintln!("==> write the images of the suite");
    let folder = archive.parent().context("the image folder")?;
    workspace::create_dir(folder)?;
    let unfinished = folder.join(format!(".suite-{key}.{}", std::process::id()));
    let file =
        std::fs::File::create(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    let parts = Parts { agnhost: &agnhost, etcd: &peers.etcd(), suite, source, unpacked: &unpacked, folder };
    write_images(Archive::new(file)?, &parts).and_then(Archive::finish)?;
    std::fs::rename(&unfinished, &archive).with_context(|| format!("rename to {}", archive.display()))?;
    Ok(archive)
}

/// What the images are made from.
struct Parts<'a> {
    agnhost: &'a Path,
    etcd: &'a Path,
    suite: &'a Path,
    source: &'a Path,
    unpacked: &'a Path,
    /// For what is compiled.
    folder: &'a Path,
}

fn write_images(mut out: Archive, parts: &Parts<'_>) -> Result<Archive> {
    let pause_program = super::compile(PAUSE_SOURCE, parts.folder)?;
    let mut layer = |files: Files<'_>| out.layer(&files.entries());
    let pause = layer(pause_files(parts, &pause_program))?;
    let shell = layer(shell_files(parts)?)?;
    let agnhost = layer(agnhost_files(parts, &pause_program)?)?;
    let nginx = layer(nginx_files(parts)?)?;
    let perl = layer(perl_files(parts)?)?;
    let ipc = layer(ipc_files(parts)?)?;
    let dns = layer(dns_files(parts)?)?;
    let privileges = layer(privileges_files(parts)?)?;
    let devices = layer(devices_files(parts)?)?;
    let etcd = layer(etcd_files(parts)?)?;
    let kitten = layer(page_files(parts, "kitten")?)?;
    let nautilus = layer(page_files(parts, "nautilus")?)?;

    let mut image = |name: &str, config: Config<'_>, layers: &[&Layer]| {
        // An image of its own for each name: kubelets report one of an image's names.
        out.image(name, &Config { author: name, ..config }, layers)
    };
    let sandbox = || Config { entrypoint: &["/pause"], user: "65535:65535", ..Config::default() };
    for name in
        [PAUSE, "registry.k8s.io/pause:3.10.1", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.9"]
    {
        image(name, sandbox(), &[&pause])?;
    }
    let server = |command| Config { entrypoint: &["/agnhost"], command, ..Config::default() };
    let command = |command| Config { command, ..Config::default() };
    let e2e = |name: &str| format!("registry.k8s.io/e2e-test-images/{name}");
    image(AGNHOST, server(&["pause"]), &[&shell, &agnhost])?;
    image(&e2e("agnhost:2.55"), server(&["pause"]), &[&shell, &agnhost])?;
    image(&e2e("kitten:1.8"), server(&["test-webserver"]), &[&shell, &agnhost, &kitten])?;
    image(&e2e("nautilus:1.8"), server(&["test-webserver"]), &[&shell, &agnhost, &nautilus])?;
    image(BUSYBOX, command(&["sh"]), &[&shell])?;
    image(&e2e("busybox:1.36.1-1"), command(&["sh"]), &[&shell])?;
    image(&e2e("nonroot:1.5"), Config { user: "1234", ..command(&["sh"]) }, &[&shell])?;
    for version in ["1.27.0-2", "1.28.0-2"] {
        image(
            &e2e(&format!("nginx:{version}")),
            command(&["nginx", "-g", "daemon off;"]),
            &[&shell, &nginx],
        )?;
    }
    image(&e2e("perl:5.26"), command(&["perl"]), &[&shell, &perl])?;
    image(&e2e("ipc-utils:1.4"), command(&["sh"]), &[&shell, &ipc])?;
    image(&e2e("glibc-dns-testing:2.1.1"), command(&["bash"]), &[&shell, &dns])?;
    image(&e2e("nonewprivs:1.4"), command(&["nnp"]), &[&shell, &privileges])?;
    for version in ["1.8.0", "1.7"] {
        let entrypoint = &["/sampledeviceplugin", "-alsologtostderr"];
        let plugin = Config { entrypoint, ..Config::default() };
        image(&e2e(&format!("sample-device-plugin:{version}")), plugin, &[&shell, &devices])?;
    }
    image("registry.k8s.io/etcd:3.7.0-0", command(&["etcd"]), &[&shell, &etcd])?;
    for name in STAND_INS {
        image(name, command(&["sh"]), &[&shell])?;
    }
    Ok(out)
}

fn pause_files<'a>(parts: &Parts<'a>, program: &[u8]) -> Files<'a> {
    let mut files = Files::new(parts.unpacked);
    files.file("pause", 0o755, program);
    files
}

/// What all others lie on. Debian's busybox is a static one of glibc's, which opens libraries to look up names.
fn shell_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let busybox = Path::new("/bin/busybox");
    let mut files = Files::new(parts.unpacked);
    for (folder, mode) in
        [("home", 0o755), ("mnt", 0o755), ("opt", 0o755), ("proc", 0o755), ("root", 0o700), ("run", 0o755)]
    {
        files.folder(folder, mode);
    }
    for (folder, mode) in
        [("srv", 0o755), ("sys", 0o755), ("tmp", 0o1777), ("var", 0o755), ("var/log", 0o755)]
    {
        files.folder(folder, mode);
    }
    files.folder("var/tmp", 0o1777);
    files.link("var/run", "../run");
    files.copy(busybox, "bin/busybox", 0o755)?;
    for applet in command::output(Command::new(busybox).arg("--list"))?.lines() {
        if applet != "busybox" {
            files.link(&format!("bin/{applet}"), "busybox");
        }
    }
    // Links for each, not one for the folder: other layers put programs there.
    for applet in ["env", "awk", "id", "which", "whoami", "nslookup", "tail", "head", "test", "top", "wc"] {
        files.link(&format!("usr/bin/{applet}"), "/bin/busybox");
    }
    files.libraries(&["libc.so.6", "libm.so.6", "libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2"])?;
    // Debian's `ash` prefers its applets to what is in PATH, and drops variables with a dash in their names.
    files.programs("bin", &["bash", "hostname"])?;
    files.link("bin/sh", "bash");
    files.file("bin/nmeter", 0o755, super::compile(NMETER_SOURCE, parts.folder)?);
    files.file("usr/local/bin/ip", 0o755, IP);
    files.file("etc/passwd", 0o644, PASSWD);
    files.file("etc/group", 0o644, GROUP);
    files.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
    let release = "NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux (busybox stand-in)\"\n";
    files.file("etc/os-release", 0o644, release);
    Ok(files)
}

/// Not every kernel has the network devices called dummy, which one test makes; a bridge serves it as well.
const IP: &str = r#"#!/bin/sh
for word in "$@"; do
    shift
    [ "$word" = dummy ] && word=bridge
    set -- "$@" "$word"
done
[ -x /usr/bin/ip ] && exec /usr/bin/ip "$@"
exec /bin/busybox ip "$@"
"#;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                      bin:x:2:2:bin:/bin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nmail:x:8:\nnogroup:x:65534:\n";

/// Servers and clients, with a registry that tests have agnhost play.
fn agnhost_files<'a>(parts: &Parts<'a>, pause: &[u8]) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.copy(parts.agnhost, "agnhost", 0o755)?;
    files.link("agnhost-2", "agnhost");
    let porter = parts.source.join("test/images/agnhost/porter");
    for name in ["localhost.crt", "localhost.key"] {
        files.copy(&porter.join(name), name, 0o644)?;
    }
    files.folder("uploads", 0o755);
    let clients = ["curl", "dig", "nslookup", "host", "ip", "socat", "ipcs", "iperf"];
    files.programs("usr/bin", &clients)?;
    files.programs("usr/bin", &["nc.openbsd"])?;
    files.link("usr/bin/nc", "nc.openbsd");
    for program in ["nc", "ip", "nslookup"] {
        files.link(&format!("bin/{program}"), &format!("/usr/bin/{program}"));
    }
    let user = "user-defined-in-image:x:1000:1000::/:/bin/sh\n";
    files.file("etc/passwd", 0o644, format!("{PASSWD}{user}"));
    let groups = "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n";
    files.file("etc/group", 0o644, format!("{GROUP}{groups}"));
    played_registry(&mut files, pause)?;
    Ok(files)
}

/// `pause:testing` in the folders of the registry that agnhost plays, which has Docker's types of content.
fn played_registry(files: &mut Files<'_>, pause: &[u8]) -> Result<()> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(pause.len() as u64);
    tar.append_data(&mut header, "pause", pause).context("write a layer")?;
    let plain = tar.into_inner().context("write a layer")?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).context("compress a layer")?;
    let packed = gzip.finish().context("compress a layer")?;

    let mut put = |kind: &str, media: &str, content: Vec<u8>| -> Value {
        let digest = oci::digest(&content);
        let hash = digest.trim_start_matches("sha256:");
        let size = content.len();
        let start = hash.get(..2).unwrap_or_default();
        files.file(&format!("var/registry/pause/{kind}/sha256/{start}/{hash}/data"), 0o644, content);
        json!({ "mediaType": format!("application/vnd.docker.{media}"), "digest": digest, "size": size })
    };
    let bytes = |document: &Value| document.to_string().into_bytes();
    let platform = json!({ "architecture": oci::ARCHITECTURE, "os": "linux" });
    let mut configuration = platform.clone();
    configuration["config"] = json!({ "Entrypoint": ["/pause"], "User": "65535:65535" });
    configuration["rootfs"] = json!({ "type": "layers", "diff_ids": [oci::digest(&plain)] });
    let configuration = put("blobs", "container.image.v1+json", bytes(&configuration));
    let layer = put("blobs", "image.rootfs.diff.tar.gzip", packed);
    let (single, list) = ("distribution.manifest.v2+json", "distribution.manifest.list.v2+json");
    let mut manifest = json!({ "schemaVersion": 2, "config": configuration, "layers": [layer] });
    manifest["mediaType"] = format!("application/vnd.docker.{single}").into();
    let mut manifest = put("manifests", single, bytes(&manifest));
    manifest["platform"] = platform;
    let mut index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    index["mediaType"] = format!("application/vnd.docker.{list}").into();
    let index = put("manifests", list, bytes(&index));
    let digest = index["digest"].as_str().unwrap_or_default();
    files.file("var/registry/pause/manifests/testing", 0o644, format!("{digest}\n"));
    Ok(())
}

fn nginx_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    for folder in ["var/log/nginx", "var/cache/nginx", "run"] {
        files.folder(folder, 0o755);
    }
    for kind in ["body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        files.folder(&format!("var/lib/nginx/{kind}"), 0o755);
    }
    files.programs("usr/sbin", &["nginx"])?;
    files.copy(&parts.unpacked.join("etc/nginx/mime.types"), "etc/nginx/mime.types", 0o644)?;
    let page = "<html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1></html>\n";
    files.file("usr/share/nginx/html/index.html", 0o644, page);
    let configuration = "user root; worker_processes 1; error_log /dev/stderr; pid /run/nginx.pid; events {} \
                         http { include mime.types; access_log /dev/stdout; \
                         server { listen 80; root /usr/share/nginx/html; } }\n";
    files.file("etc/nginx/nginx.conf", 0o644, configuration);
    Ok(files)
}

fn perl_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.programs("usr/bin", &["perl"])?;
    let modules = format!("usr/lib/{}-linux-gnu/perl-base", std::env::consts::ARCH);
    let beside = parts.unpacked.join(&modules);
    let found = if beside.exists() { beside } else { Path::new("/").join(&modules) };
    files.tree(&found, &modules)?;
    Ok(files)
}

fn ipc_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.programs("usr/bin", &["ipcs", "ipcmk", "ipcrm", "lsipc"])?;
    for program in ["ipcs", "ipcrm"] {
        files.link(&format!("bin/{program}"), &format!("/usr/bin/{program}"));
    }
    Ok(files)
}

fn dns_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.programs("usr/bin", &["dig", "nslookup", "host"])?;
    files.link("bin/nslookup", "/usr/bin/nslookup");
    Ok(files)
}

fn privileges_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.copy(&parts.suite.join("nonewprivs"), "usr/local/bin/nnp", 0o6755)?;
    Ok(files)
}

fn devices_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.copy(&parts.suite.join("sample-device-plugin"), "sampledeviceplugin", 0o755)?;
    Ok(files)
}

fn etcd_files<'a>(parts: &Parts<'a>) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    files.copy(parts.etcd, "usr/local/bin/etcd", 0o755)?;
    Ok(files)
}

/// The pages of one of the servers whose replacement a test watches.
fn page_files<'a>(parts: &Parts<'a>, name: &str) -> Result<Files<'a>> {
    let mut files = Files::new(parts.unpacked);
    let pages = parts.source.join("test/images").join(name).join("html");
    let list = std::fs::read_dir(&pages).with_context(|| format!("list {}", pages.display()))?;
    for entry in list {
        let entry = entry.with_context(|| format!("list {}", pages.display()))?;
        files.copy(&entry.path(), &entry.file_name().to_string_lossy(), 0o644)?;
    }
    Ok(files)
}
