//! What a kubelet asks of plugins, asked of this one.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod volumes;

use std::collections::BTreeMap;
use std::path::Path;

use fake_csi::{Capability, Driver, Options, Server};
use plugins::{CallFailure, csi, registration};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

fn serve(folder: &Path) -> Options {
    let options = Options {
        registration: folder.join("reg.sock"),
        socket: folder.join("csi.sock"),
        control: folder.join("control.sock"),
        volumes: folder.join("data"),
        driver: Driver {
            kind: "CSIPlugin".to_owned(),
            name: "d.example".to_owned(),
            versions: vec!["1.0.0".to_owned(), "1.13.0".to_owned()],
            node_id: "n".to_owned(),
            max_volumes: 3,
            topology: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            capabilities: vec![Capability::Stage],
            has_controller: false,
        },
        hung: Vec::new(),
    };
    let server = Server::bind(options.clone()).unwrap();
    tokio::spawn(server.serve());
    options
}

async fn command(options: &Options, line: &str) -> String {
    let mut stream = UnixStream::connect(&options.control).await.unwrap();
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.unwrap();
    answer.trim_end().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn it_says_what_it_is_and_hears_what_comes_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = serve(folder.path());
    let socket = text(&options.registration);
    let info = registration::get_info(socket).await.unwrap();
    assert_eq!((info.kind.as_str(), info.name.as_str()), ("CSIPlugin", "d.example"));
    assert_eq!(info.endpoint, text(&options.socket));
    assert_eq!(info.versions, ["1.0.0", "1.13.0"]);
    registration::notify(socket, Some("RegisterPlugin error -- no")).await.unwrap();
    assert_eq!(command(&options, "said").await, "ok RegisterPlugin error -- no");
    registration::notify(socket, None).await.unwrap();
    assert_eq!(command(&options, "said").await, "ok registered");
    let node = csi::node_get_info(&info.endpoint).await.unwrap();
    assert_eq!((node.node_id.as_str(), node.max_volumes, node.topology["zone"].as_str()), ("n", 3, "a"));
    assert_eq!(command(&options, "max-volumes 0").await, "ok");
    assert_eq!(csi::node_get_info(&info.endpoint).await.unwrap().max_volumes, 0);
    assert_eq!(command(&options, "count NodeGetInfo").await, "ok 2");
}

#[tokio::test]
async fn calls_that_are_held_refused_or_lead_nowhere_fail_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let options = serve(folder.path());
    assert_eq!(command(&options, "hang GetInfo").await, "ok");
    let error = registration::get_info(text(&options.registration)).await.unwrap_err();
    assert_eq!(
        error.source.to_string(),
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    );
    assert_eq!(command(&options, "release GetInfo").await, "ok");
    registration::get_info(text(&options.registration)).await.unwrap();
    assert_eq!(command(&options, "fail NodeGetInfo").await, "ok");
    let error = csi::node_get_info(text(&options.socket)).await.unwrap_err();
    assert_eq!(error.source.to_string(), "rpc error: code = Internal desc = told to fail");
    assert_eq!((error.call, error.source.code().as_str()), ("NodeGetInfo", "Internal"));
    let nowhere = folder.path().join("nowhere.sock");
    let error = csi::node_get_info(text(&nowhere)).await.unwrap_err();
    assert!(matches!(error.source, CallFailure::Connect(_)), "{error:?}");
}

/// A plugin makes its socket before it listens there.
#[tokio::test]
async fn a_plugin_that_is_about_to_listen_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reg.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = text(&path).to_owned();
    let asked = tokio::spawn(async move { registration::get_info(&socket).await });
    tokio::task::yield_now().await;
    serve(folder.path());
    assert_eq!(asked.await.unwrap().unwrap().name, "d.example");
}
