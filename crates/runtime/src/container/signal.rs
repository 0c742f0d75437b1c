//! `lifecycle.stopSignal` and `status.containerStatuses[].stopSignal` (KEP-4960).

use k8s_openapi::api::core::v1::Container;

use crate::node_settings::NodeSettings;
use crate::wire::Signal;

/// The signal that ends the container; the image's own unless the spec names one.
pub(super) fn of(container: &Container, node: &NodeSettings) -> Signal {
    if !node.honours_stop_signals {
        return Signal::RuntimeDefault;
    }
    let Some(name) = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref()) else {
        return Signal::RuntimeDefault;
    };
    let spelled = name.replace('+', "PLUS").replace('-', "MINUS");
    Signal::from_str_name(&format!("SIGNAL_{spelled}")).unwrap_or(Signal::RuntimeDefault)
}

/// The signal as the API spells it; `None` when the runtime does not tell which.
pub(crate) fn text(signal: Signal) -> Option<String> {
    let spelled = signal.as_str_name().strip_prefix("SIGNAL_")?;
    // Only the numbered real-time signals are spelled otherwise.
    let text = spelled.replace("PLUS", "+").replace("MINUS", "-");
    (signal != Signal::RuntimeDefault).then_some(text)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Lifecycle;

    use super::*;

    #[test]
    fn knows_every_spelling() {
        for (name, signal) in [
            ("SIGUSR1", Signal::Sigusr1),
            ("SIGRTMIN+15", Signal::Sigrtminplus15),
            ("SIGRTMAX-1", Signal::Sigrtmaxminus1),
            ("SIGNONSENSE", Signal::RuntimeDefault),
        ] {
            let lifecycle = Some(Lifecycle { stop_signal: Some(name.into()), ..Default::default() });
            let container = Container { lifecycle, ..Default::default() };
            let on = NodeSettings { honours_stop_signals: true, ..Default::default() };
            assert_eq!(of(&container, &on), signal, "{name}");
            assert_eq!(of(&container, &NodeSettings::default()), Signal::RuntimeDefault);
            assert_eq!(text(signal), Some(name.to_owned()).filter(|n| n != "SIGNONSENSE"));
        }
    }
}
