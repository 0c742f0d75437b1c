//! Static pods that a web server has.

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::process::{DEADLINE, Lab, ended, signal};
use crate::runtime;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'i:1'}]}\n";

/// Answers one request and gives what it was asked.
async fn asked(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{POD}", POD.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn static_pods_are_fetched_with_the_headers_that_are_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pods", listener.local_addr().unwrap());
    let lab = Lab::new()
        .with(&format!("staticPodURL: '{url}'\nstaticPodURLHeader: {{x-token: [hunter2]}}\n"))
        .flag("--hostname-override=node-1")
        .flag("-v=2");
    runtime::serve(&lab.path("cri.sock"));
    let mut child = lab.start();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let head = tokio::time::timeout(DEADLINE, asked(&listener)).await.unwrap();
    assert!(head.starts_with("get /pods http/1.1") && head.contains("x-token: hunter2"), "{head}");
    let added = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            assert!(!line.contains("hunter2") && !line.contains("not implemented yet"), "{line}");
            if line.contains(r#""Pods added" source="http" count=1"#) {
                return assert!(line.contains("default/web-node-1"), "{line}");
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(DEADLINE, added).await.unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}
