//! SOCKS 5 as RFC 1928 and RFC 1929 have it. The proxy looks names up.
//!
//! As in Go, a proxy that is offered a password may do without it, and user and password are bytes. The client for this
//! protocol in `hyper-util` (0.1.21) offers a proxy a password alone, refuses one that does without, and takes texts.

use std::io;
use std::net::IpAddr;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::no_proxy::Authority;
use crate::proxy::Credentials;

const VERSION: u8 = 5;
const CONNECT: u8 = 1;
const NO_PASSWORD: u8 = 0;
const PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Why the proxy made no connection.
#[derive(Debug, Error)]
pub(crate) enum SocksError {
    #[error("it does not speak SOCKS 5")]
    Protocol,
    #[error("it wants other credentials than there are")]
    Method,
    #[error("a user has to have 1 to 255 bytes, and a password at most 255")]
    Length,
    #[error("it refuses user or password")]
    Password,
    #[error("the server's name is longer than 255 bytes")]
    Name,
    #[error("{}", reason(*.0))]
    Refused(u8),
    #[error("while it is spoken to")]
    Io(#[from] io::Error),
}

fn reason(code: u8) -> String {
    let text = match code {
        1 => "the proxy failed",
        2 => "its rules do not allow it",
        3 => "the network cannot be reached",
        4 => "the server cannot be reached",
        5 => "the server refuses the connection",
        6 => "the time to live is over",
        7 => "it makes no connections for others",
        8 => "it does not know this kind of address",
        _ => return format!("it answers with the unknown code {code}"),
    };
    text.to_owned()
}

/// Has a connection to `server` made. What is sent and received afterwards is the server's.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    server: Authority<'_>,
    credentials: Option<&Credentials>,
) -> Result<(), SocksError> {
    let methods: &[u8] = if credentials.is_some() { &[NO_PASSWORD, PASSWORD] } else { &[NO_PASSWORD] };
    send(stream, &[&[VERSION, methods.len() as u8], methods].concat()).await?;
    let [version, method] = receive(stream).await?;
    if version != VERSION {
        return Err(SocksError::Protocol);
    }
    match (method, credentials) {
        (NO_PASSWORD, _) => {}
        (PASSWORD, Some(credentials)) => log_in(stream, credentials).await?,
        _ => return Err(SocksError::Method),
    }
    send(stream, &request(server)?).await?;
    let [version, code, _, kind] = receive(stream).await?;
    if version != VERSION {
        return Err(SocksError::Protocol);
    }
    if code != 0 {
        return Err(SocksError::Refused(code));
    }
    // The address the proxy uses is nothing to us, but has to be read.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(receive::<1>(stream).await?[0]),
        _ => return Err(SocksError::Protocol),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(())
}

async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    credentials: &Credentials,
) -> Result<(), SocksError> {
    let mut message = vec![PASSWORD_VERSION];
    if credentials.user.is_empty() {
        return Err(SocksError::Length);
    }
    for text in [&credentials.user, &credentials.password] {
        message.push(u8::try_from(text.len()).map_err(|_| SocksError::Length)?);
        message.extend_from_slice(text);
    }
    send(stream, &message).await?;
    match receive(stream).await? {
        [PASSWORD_VERSION, 0] => Ok(()),
        [PASSWORD_VERSION, _] => Err(SocksError::Password),
        _ => Err(SocksError::Protocol),
    }
}

fn request(server: Authority<'_>) -> Result<Vec<u8>, SocksError> {
    let mut message = vec![VERSION, CONNECT, 0];
    match server.address {
        Some(IpAddr::V4(address)) => {
            message.push(IPV4);
            message.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            message.push(IPV6);
            message.extend(address.octets());
        }
        None => {
            message.extend([NAME, u8::try_from(server.host.len()).map_err(|_| SocksError::Name)?]);
            message.extend(server.host.bytes());
        }
    }
    message.extend(server.port.to_be_bytes());
    Ok(message)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> io::Result<()> {
    stream.write_all(message).await?;
    stream.flush().await
}

async fn receive<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
