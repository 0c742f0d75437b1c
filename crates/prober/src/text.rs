//! Spellings that users know from the upstream kubelet, whose texts come from Go's libraries.

use std::io;

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What the kernel said, in lower case and without the number: `connection refused`.
pub(crate) fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_errors_lose_number_and_capital() {
        assert_eq!(errno(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(errno(&io::Error::from_raw_os_error(113)), "no route to host");
    }

    #[test]
    fn ipv6_gets_brackets() {
        assert_eq!(join_host_port("::1", 80), "[::1]:80");
        assert_eq!(join_host_port("10.0.0.1", 80), "10.0.0.1:80");
    }
}
