//! The one call of the C library that roomcast needs and no safe library offers. It stands in a crate of its own
//! so that the server itself stays without `unsafe`.

/// Gives free memory back to the system; returns whether there was any. It looks at all of the heap and takes
/// the allocator's locks one after the other, milliseconds for some hundred megabytes: call it on a thread that
/// may wait.
///
/// glibc keeps what is freed below memory in use until this is called, see `malloc_trim(3)`. Other allocators
/// need no such call, and there this does nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() -> bool {
    // SAFETY: `malloc_trim` takes no pointer and may be called by any thread at any time.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Does nothing: only glibc needs to be asked.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() -> bool {
    false
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::{fs, hint::black_box};

    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn what_is_freed_below_memory_in_use_goes_back() {
        let mut pieces = (0..6400).map(|_| Some(black_box(vec![1u8; 10_000]))).collect::<Vec<_>>();
        // Every hundredth stays, the last one among them.
        for (number, piece) in pieces.iter_mut().enumerate() {
            if number % 100 != 99 {
                *piece = None;
            }
        }
        let before = resident();
        assert!(super::give_back());
        let after = resident();
        assert!(before > 50_000_000 && after < before / 2, "{before} bytes before, {after} after");
        assert_eq!(pieces.iter().flatten().count(), 64);
    }
}
