#!/usr/bin/env bash
# Plain HTTP goes to port 443 by way of a SOCKS 5 proxy, and who has a password offers the proxy nothing else.
#
# Versions:  hyper-util 0.1.21 (features client-legacy, client-proxy, tokio), Rust 1.95
# Expected:  `http://registry.example/` by way of a proxy is a connection to port 80, as without one (RFC 9110, section 4.2.1).
#            A client that has a password offers to use it and to do without, and the proxy chooses (RFC 1928, section 3), as
#            curl and Go's client do.
# Instead:   SocksV5 asks for port 443 where a URL names none, whatever its scheme, while the connector without a proxy takes
#            80. With a password it offers method 2 alone: a proxy that wants none, as many do of addresses they know, has
#            nothing to choose.
# Seen:      port 443 for http and https, 80 only where it is written; methods [2].
# Why care:  a node agent that fetches manifests or images over plain HTTP on a closed network speaks HTTP to a TLS port once
#            there is a proxy, and the error, a reset or an alert, is the server's. Write the port into each URL.
source "$(dirname "$0")/common.bash"

crate 'hyper = { version = "=1.12.0", features = ["client", "http1"] }' 'http = "=1.5.0"' 'tower-service = "=0.3.3"' \
  'hyper-util = { version = "=0.1.21", features = ["client-legacy", "client-proxy", "http1", "tokio"] }' \
  'tokio = { version = "=1.54.1", features = ["rt", "net", "io-util", "macros"] }'

cat >src/main.rs <<'RUST'
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower_service::Service;

/// A proxy for one client: what it is offered, and what it is asked for.
async fn asked(listener: &TcpListener) -> std::io::Result<String> {
    let (mut client, _) = listener.accept().await?;
    let mut head = [0; 2];
    client.read_exact(&mut head).await?;
    let mut methods = vec![0; head[1].into()];
    client.read_exact(&mut methods).await?;
    let chosen = methods[0];
    client.write_all(&[5, chosen]).await?;
    if chosen == 2 {
        let mut length = [0; 2];
        client.read_exact(&mut length).await?;
        let mut user = vec![0; length[1].into()];
        client.read_exact(&mut user).await?;
        let mut password = vec![0; client.read_u8().await?.into()];
        client.read_exact(&mut password).await?;
        client.write_all(&[1, 0]).await?;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    let address = match request[3] {
        3 => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            format!("{:?}", String::from_utf8_lossy(&name))
        }
        kind => {
            let mut bytes = vec![0; if kind == 4 { 16 } else { 4 }];
            client.read_exact(&mut bytes).await?;
            format!("{bytes:?}")
        }
    };
    let port = client.read_u16().await?;
    Ok(format!("methods {methods:?}, {address}, port {port}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy: Uri = format!("http://{}", listener.local_addr()?).parse()?;
    for (to, has_password) in [
        ("http://registry.example", false),
        ("http://registry.example:80", false),
        ("https://registry.example", false),
        ("https://registry.example", true),
    ] {
        let mut socks = SocksV5::new(proxy.clone(), HttpConnector::new());
        if has_password {
            socks = socks.with_auth("user".to_owned(), "password".to_owned());
        }
        // The proxy hangs up when it knows what is wanted: no tunnel is made.
        let (asked, _) = tokio::join!(asked(&listener), socks.call(to.parse()?));
        println!("{to}, {} password: {}", if has_password { "a" } else { "no" }, asked?);
    }
    Ok(())
}
RUST

cat >stated <<'TEXT'
http://registry.example, no password: methods [0], "registry.example", port 443
http://registry.example:80, no password: methods [0], "registry.example", port 80
https://registry.example, no password: methods [0], "registry.example", port 443
https://registry.example, a password: methods [2], "registry.example", port 443
TEXT
check_crate
