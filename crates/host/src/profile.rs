//! Where this process spends its processor time, as the kernel sees it.
//!
//! The kernel samples the threads (`perf_event_open(2)`): it stops each after so much processor time
//! and writes down where in the program it was. There is no signal handler, nothing is linked in that
//! runs otherwise, and without a profile under way nothing is held. What the kernel writes lies in one
//! ring of memory a thread and is taken from there about once a second.
//!
//! Whole call stacks need frame pointers; where the compiler left them out, a sample is the place
//! itself and as many of its callers as could be found.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of a ring beside its head; a power of two. 64 KiB hold more than a second of samples that
/// are as deep as they can be.
const RING_PAGES: usize = 16;
/// The layout of the attributes that is known here, which every kernel takes.
const ATTRIBUTES_BYTES: u32 = 64;
const TYPE_SOFTWARE: u32 = 1;
const COUNT_TASK_CLOCK: u64 = 1;
const SAMPLE_CALLCHAIN: u64 = 1 << 5;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
const IS_FREQUENCY: u64 = 1 << 10;
const EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
/// Where in a ring's head the kernel says how far it wrote, and is told how far was read.
const HEAD_AT: usize = 1024;
const TAIL_AT: usize = 1032;
const RECORD_SAMPLE: u32 = 9;
/// Addresses from here on are marks, not places.
const FIRST_MARK: u64 = u64::MAX - 4095;

/// `struct perf_event_attr`, as far as its first version goes.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    frequency: u64,
    sample: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
}

/// A profile of the processor time under way.
#[derive(Debug)]
pub struct CpuSampler {
    frequency: u64,
    rings: BTreeMap<u32, Ring>,
    stacks: HashMap<Vec<u64>, u64>,
}

impl CpuSampler {
    /// Starts to sample every thread so many times a second of its processor time.
    ///
    /// # Errors
    /// When the kernel does not let this process do that (`kernel.perf_event_paranoid`, a seccomp
    /// filter).
    pub fn start(frequency: u64) -> io::Result<Self> {
        let mut sampler = Self { frequency, rings: BTreeMap::new(), stacks: HashMap::new() };
        sampler.sample()?;
        if sampler.rings.is_empty() {
            return Err(io::Error::other("no thread could be sampled"));
        }
        Ok(sampler)
    }

    /// Takes what the kernel wrote down, and takes up threads that are new. To be called about once a
    /// second.
    ///
    /// # Errors
    /// When the threads cannot be listed, or none of them may be sampled.
    pub fn sample(&mut self) -> io::Result<()> {
        let threads: Vec<u32> = threads()?.into_iter().map(|thread| thread.id).collect();
        for ring in self.rings.values() {
            ring.drain(|stack| *self.stacks.entry(stack).or_default() += 1);
        }
        self.rings.retain(|id, _| threads.contains(id));
        for id in threads {
            if self.rings.contains_key(&id) {
                continue;
            }
            match Ring::open(id, self.frequency) {
                Ok(ring) => drop(self.rings.insert(id, ring)),
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Every call stack that was seen, innermost address first, and how often.
    pub fn finish(mut self) -> Vec<(Vec<u64>, u64)> {
        for ring in self.rings.values() {
            ring.drain(|stack| *self.stacks.entry(stack).or_default() += 1);
        }
        let mut stacks: Vec<_> = self.stacks.into_iter().collect();
        stacks.sort_unstable();
        stacks
    }
}

/// The samples of one thread.
#[derive(Debug)]
struct Ring {
    memory: NonNull<u8>,
    page: usize,
    _event: OwnedFd,
}

// SAFETY: the memory belongs to this value alone, and the kernel does not care which thread reads it.
unsafe impl Send for Ring {}

impl Ring {
    fn open(thread: u32, frequency: u64) -> io::Result<Self> {
        let with_kernel = Self::event(thread, frequency, EXCLUDE_CALLCHAIN_KERNEL);
        // Who may not see into the kernel sees at least what happens outside of it.
        let event = match with_kernel {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
                Self::event(thread, frequency, EXCLUDE_KERNEL)?
            }
            other => other?,
        };
        let page = rustix::param::page_size();
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page * (RING_PAGES + 1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { memory, page, _event: event })
    }

    fn event(thread: u32, frequency: u64, exclude: u64) -> io::Result<OwnedFd> {
        let attributes = Attributes {
            kind: TYPE_SOFTWARE,
            size: ATTRIBUTES_BYTES,
            config: COUNT_TASK_CLOCK,
            frequency,
            sample: SAMPLE_CALLCHAIN,
            read_format: 0,
            flags: IS_FREQUENCY | EXCLUDE_HYPERVISOR | exclude,
            wakeup: 0,
            breakpoint: 0,
            config1: 0,
        };
        let (any_cpu, no_group) = (-1 as libc::c_int, -1 as libc::c_int);
        let thread = libc::pid_t::try_from(thread).map_err(io::Error::other)?;
        // SAFETY: the attributes live for the call and are as long as they say; the kernel only reads
        // them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                thread,
                any_cpu,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just made it for us, nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Hands out the stacks that were written since the last time.
    fn drain(&self, mut each: impl FnMut(Vec<u64>)) {
        let size = RING_PAGES * self.page;
        // SAFETY: both lie in the ring's first page, are aligned to eight bytes, and are numbers the
        // kernel and we agree to read and write as a whole (perf_event_open(2)).
        let (head, tail) = unsafe {
            (
                AtomicU64::from_ptr(self.memory.as_ptr().add(HEAD_AT).cast()),
                AtomicU64::from_ptr(self.memory.as_ptr().add(TAIL_AT).cast()),
            )
        };
        let (start, end) = (tail.load(Ordering::Relaxed), head.load(Ordering::Acquire));
        let length = usize::try_from(end.wrapping_sub(start)).unwrap_or(0).min(size);
        let mut bytes = Vec::with_capacity(length);
        let mut at = usize::try_from(start % size as u64).unwrap_or(0);
        while bytes.len() < length {
            let count = (length - bytes.len()).min(size - at);
            // SAFETY: the range lies in the ring's pages after the first; the kernel does not write to
            // what is between tail and head.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(self.memory.as_ptr().add(self.page + at), count)
            });
            at = (at + count) % size;
        }
        tail.store(end, Ordering::Release);
        stacks(&bytes, &mut each);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this very range was mapped by `open`, and nothing refers to it any more.
        unsafe {
            libc::munmap(self.memory.as_ptr().cast(), self.page * (RING_PAGES + 1));
        }
    }
}

/// The call stacks in what the kernel wrote.
fn stacks(mut bytes: &[u8], each: &mut impl FnMut(Vec<u64>)) {
    // A header is a kind of 4 bytes, 2 of flags and the length with the header in 2.
    while let Some((header, _)) = bytes.split_first_chunk::<8>() {
        let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::from(u16::from_ne_bytes([header[6], header[7]]));
        let Some(record) = bytes.get(8..length) else { return };
        if kind == RECORD_SAMPLE {
            let mut numbers = record.as_chunks::<8>().0.iter().map(|number| u64::from_ne_bytes(*number));
            let count = usize::try_from(numbers.next().unwrap_or(0)).unwrap_or(0);
            let stack: Vec<u64> = numbers.take(count).filter(|address| *address < FIRST_MARK).collect();
            if !stack.is_empty() {
                each(stack);
            }
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
}

/// A thread of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it is at, in the kernel's letter: `R` runs, `S` waits, `D` waits for a disk.
    pub state: char,
}

/// The threads of this process.
///
/// # Errors
/// When the kernel does not list them.
pub fn threads() -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is none.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
            continue;
        };
        let state = rest.trim_start().chars().next().unwrap_or('?');
        threads.push(Thread { id, name: name.to_owned(), state });
    }
    threads.sort_by_key(|thread| thread.id);
    Ok(threads)
}

/// A piece of program that is mapped into this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last one.
    pub end: u64,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// The file.
    pub path: PathBuf,
}

/// All code of this process that comes from files, the program itself first.
///
/// # Errors
/// When the kernel does not tell.
pub fn code_mappings() -> io::Result<Vec<CodeMapping>> {
    let program = fs::read_link("/proc/self/exe")?;
    let mut mappings: Vec<_> = fs::read_to_string("/proc/self/maps")?.lines().filter_map(mapping).collect();
    mappings.sort_by_key(|mapping| (mapping.path != program, mapping.start));
    Ok(mappings)
}

/// One line of `/proc/self/maps`, if it is code from a file.
fn mapping(line: &str) -> Option<CodeMapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()?.contains('x');
    let offset = fields.next()?;
    let path = fields.nth(2).filter(|path| path.starts_with('/'))?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    is_code.then_some(())?;
    Some(CodeMapping { start: number(start)?, end: number(end)?, offset: number(offset)?, path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_damaged_ones_end_it() {
        let record = |kind: u32, numbers: &[u64]| {
            let length = u16::try_from(8 + numbers.len() * 8).unwrap();
            let mut bytes = kind.to_ne_bytes().to_vec();
            bytes.extend([0, 0]);
            bytes.extend(length.to_ne_bytes());
            numbers.iter().for_each(|number| bytes.extend(number.to_ne_bytes()));
            bytes
        };
        let seen = |bytes: &[u8]| {
            let mut seen = Vec::new();
            stacks(bytes, &mut |stack| seen.push(stack));
            seen
        };
        let user = u64::MAX - 511;
        let all = [record(9, &[3, user, 16, 32]), record(2, &[1, 1]), record(9, &[1, 48])].concat();
        assert_eq!(seen(&all), [vec![16, 32], vec![48]]);
        assert_eq!(seen(&record(9, &[1, user])), [[0_u64; 0]; 0]);
        // Says more than there is.
        assert_eq!(seen(&record(9, &[u64::MAX, 16])), [[16]]);
        assert_eq!(seen(&all[..all.len() - 4]), [[16, 32]]);
        assert_eq!(seen(&[0; 24]), [[0_u64; 0]; 0]);
        assert_eq!(seen(b"short"), [[0_u64; 0]; 0]);
    }

    #[test]
    fn lines_about_code() {
        let line = "55d0c0a00000-55d0c0b00000 r-xp 00021000 fd:01 1234    /usr/bin/kubelet";
        let want = CodeMapping {
            start: 0x55d0_c0a0_0000,
            end: 0x55d0_c0b0_0000,
            offset: 0x21000,
            path: "/usr/bin/kubelet".into(),
        };
        assert_eq!(mapping(line), Some(want));
        for line in ["", "1-2", "1-2 r--p 0 fd:01 1 /x", "1-2 r-xp 0 00:00 0 [vdso]", "x-2 r-xp 0 fd:01 1 /x"]
        {
            assert_eq!(mapping(line), None, "{line}");
        }
    }

    #[test]
    fn work_shows_where_it_is_done() {
        let mut sampler = match CpuSampler::start(1000) {
            Ok(sampler) => sampler,
            // A kernel or a container that does not let anyone sample.
            Err(error) => return assert!(error.raw_os_error().is_some(), "{error}"),
        };
        let mappings = code_mappings().unwrap();
        assert!(threads().unwrap().iter().any(|thread| thread.state == 'R'));
        let is_own = |stack: &[u64]| {
            stack.first().is_some_and(|at| mappings.iter().any(|m| (m.start..m.end).contains(at)))
        };
        // Until there is a sample, which takes a millisecond of work.
        let mut work = 0_u64;
        while !sampler.stacks.keys().any(|stack| is_own(stack)) {
            (0..100_000).for_each(|number| work = std::hint::black_box(work ^ number));
            sampler.sample().unwrap();
        }
        assert!(!sampler.finish().is_empty());
    }
}
