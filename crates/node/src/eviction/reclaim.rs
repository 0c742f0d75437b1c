//! What is reclaimed before a pod goes: a table of the garbage collections that free a disk (upstream's
//! `buildSignalToNodeReclaimFuncs`).

use model::Signal;
use serde::{Deserialize, Serialize};

use crate::pressure::DiskLayout;

/// What may be removed for a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reclaimable {
    /// Dead containers of pods that are over.
    pub(super) containers: bool,
    /// Images that nobody uses.
    pub(super) images: bool,
}

impl Reclaimable {
    const NOTHING: Self = Self { containers: false, images: false };

    pub(super) fn of(signal: Signal, layout: DiskLayout) -> Self {
        let is_of_images = matches!(signal, Signal::ImageFs | Signal::ImageFsInodes);
        let is_of_node = matches!(signal, Signal::NodeFs | Signal::NodeFsInodes);
        match (signal, layout) {
            (Signal::Memory | Signal::PodsMemory | Signal::Pids, _) => Self::NOTHING,
            (_, DiskLayout::Together) => Self { containers: true, images: true },
            (_, DiskLayout::ImagesApart) if is_of_node => Self::NOTHING,
            (_, DiskLayout::ImagesApart) => Self { containers: true, images: true },
            (_, DiskLayout::Split) => Self { containers: !is_of_images, images: is_of_images },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's `TestBuildSignalToNodeReclaimFuncs` and the three layouts of `buildSignalToNodeReclaimFuncs`.
    #[test]
    fn each_disk_is_freed_of_what_lies_on_it() {
        use DiskLayout::{ImagesApart, Split, Together};
        for (signal, layout, expected) in [
            (Signal::Memory, Together, (false, false)),
            (Signal::PodsMemory, Split, (false, false)),
            (Signal::Pids, ImagesApart, (false, false)),
            (Signal::NodeFs, Together, (true, true)),
            (Signal::NodeFsInodes, Together, (true, true)),
            (Signal::ImageFs, Together, (true, true)),
            (Signal::NodeFs, ImagesApart, (false, false)),
            (Signal::ImageFs, ImagesApart, (true, true)),
            (Signal::ImageFsInodes, ImagesApart, (true, true)),
            (Signal::NodeFs, Split, (true, false)),
            (Signal::ImageFs, Split, (false, true)),
            (Signal::ContainerFs, Split, (true, false)),
            (Signal::ContainerFsInodes, Split, (true, false)),
        ] {
            let Reclaimable { containers, images } = Reclaimable::of(signal, layout);
            assert_eq!((containers, images), expected, "{signal} {layout:?}");
        }
    }
}
